//go:build !amd64 || purego

package wire

// hasBlocks says whether classify may be used. Eight bytes a step without
// vectors are faster than making masks of them.
const hasBlocks = false

func classify(p []byte, n int, out *[blocksMax]block) { classifyGo(p, n, out) }
