//go:build !linux

package direct

import "net"

type halves struct{}

func halvesOf(net.Conn) *halves { return nil }

func (*halves) read(p []byte, c net.Conn) (int, error)  { return c.Read(p) }
func (*halves) write(p []byte, c net.Conn) (int, error) { return c.Write(p) }

func (*halves) writeNow(net.Buffers, net.Conn) (int, error) { return 0, nil }
