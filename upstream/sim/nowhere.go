package sim

import (
	"fmt"
	"net"
)

// Refused returns the URL of a port of this machine where nothing listens.
func Refused() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String(), nil
}
