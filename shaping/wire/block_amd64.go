//go:build amd64 && !purego

package wire

import "golang.org/x/sys/cpu"

// hasBlocks says whether classify may be used.
var hasBlocks = cpu.X86.HasAVX2

// wideBlocks says that a block is looked at in one register: on machines that have the
// instructions and do not run slower for them, which is since the second of VBMI came.
var wideBlocks = cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VBMI2 && cpu.X86.HasBMI1 && cpu.X86.HasPOPCNT

// classify describes the first n blocks of p.
func classify(p []byte, n int, out *[blocksMax]block) { classifyAVX2(&p[:n<<6][0], n, &out[0]) }

// scanWide goes through the first n blocks of p, at least one, and returns how many it
// got through.
func scanWide(p []byte, n int, s *stretch) int { return scanAVX512(&p[:n<<6][0], n, s) }

//go:noescape
func scanAVX512(p *byte, n int, s *stretch) int

//go:noescape
func classifyAVX2(p *byte, n int, out *block)
