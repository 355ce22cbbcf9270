//go:build amd64 && !purego

package wire

import "testing"

// eachWay runs a test for each way in which this machine can read blocks.
func eachWay(t *testing.T, f func(t *testing.T)) {
	blocks, wide := hasBlocks, wideBlocks
	defer func() { hasBlocks, wideBlocks = blocks, wide }()
	if wide {
		t.Run("AVX-512", f)
	}
	if wideBlocks = false; blocks {
		t.Run("AVX2", f)
	}
	hasBlocks = false
	t.Run("bytes", f)
}
