//go:build !linux && !darwin

package upstream

import "net"

type idleWatch struct{}

func (idleWatch) of(net.Conn) {}

func (idleWatch) isQuiet() bool { return true }
