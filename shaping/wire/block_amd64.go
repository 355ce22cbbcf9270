//go:build amd64 && !purego

package wire

import "golang.org/x/sys/cpu"

// hasBlocks says whether classify may be used.
var hasBlocks = cpu.X86.HasAVX2

// classify describes the first n blocks of p.
func classify(p []byte, n int, out *[blocksMax]block) { classifyAVX2(&p[:n<<6][0], n, &out[0]) }

//go:noescape
func classifyAVX2(p *byte, n int, out *block)
