//go:build !amd64 || purego

package wire

// hasBlocks says whether classify may be used. Eight bytes a step without
// vectors are faster than making masks of them.
const hasBlocks = false

// wideBlocks says whether scanWide may be used.
const wideBlocks = false

func scanWide([]byte, int, *stretch) int { panic("BUG: there are no wide blocks") }

func classify(p []byte, n int, out *[blocksMax]block) { classifyGo(p, n, out) }
