//go:build !amd64 || purego

package wire

import "testing"

// eachWay runs a test for each way in which this machine can read blocks.
func eachWay(t *testing.T, f func(t *testing.T)) { f(t) }
