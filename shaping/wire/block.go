package wire

import "math/bits"

// block describes 64 bytes of JSON, a bit for each.
type block struct {
	quote  uint64 // "
	slash  uint64 // \\
	ctrl   uint64 // below a space
	simple uint64 // may follow a backslash, and is its whole escape
}

// stretch is how far a string was read by blocks.
type stretch struct {
	// Of the block where it stopped: what stopped it, quotes, what is escaped.
	stop, quote, esc uint64

	escaped uint64 // 1 when the first byte of the next block is
	slack   int    // of what was read
}

const (
	stretchMax = 4096 // blocks that are read in one go, and nothing else on the processor

	blocksMax   = 16  // that are looked at in one go
	blocksFirst = 2   // and at first: most strings end soon
	blocksFrom  = 64  // bytes of a string that are read before
	blocksRoom  = 256 // bytes of the body that there must be behind
)

// classifyGo says what classify does, for tests and for machines without it.
func classifyGo(p []byte, n int, out *[blocksMax]block) {
	for k := range n {
		b := block{}
		for j, c := range p[k<<6 : k<<6+64] {
			bit := uint64(1) << j
			if c == '"' {
				b.quote |= bit
			}
			if c == '\\' {
				b.slash |= bit
			}
			if c < ' ' {
				b.ctrl |= bit
			}
			if escapes[c] == 1 {
				b.simple |= bit
			}
		}
		out[k] = b
	}
}

// blockString goes on in the inside of a string at i, which is no escaped byte.
// When it finds the closing quote it returns the offset after it, and true;
// otherwise where to go on one byte after the other: before an escape that is
// not one letter, at a control character, or near the end of p.
func blockString(p []byte, i, slack int) (end, slackNow int, found bool) {
	if wideBlocks {
		return wideString(p, i, slack)
	}
	const odd = 0xaaaaaaaaaaaaaaaa
	var (
		blocks  [blocksMax]block
		escaped uint64 // 1 when the first byte of the block is
		want    = blocksFirst
	)
	for n := len(p) - i; n >= 64; n = len(p) - i {
		n = min(n>>6, want)
		classify(p[i:], n, &blocks)
		for k := range blocks[:n] {
			b := &blocks[k]
			stop, after, esc := b.quote|b.ctrl, escaped, uint64(0)
			if b.slash|escaped != 0 {
				// A backslash escapes what follows it unless it is escaped itself: of
				// a run every second byte is (after simdjson's json_escape_scanner).
				slash := b.slash &^ escaped
				codes := ((slash<<1 | odd) - slash) ^ odd
				esc = codes ^ (slash | escaped)
				after = (codes & slash) >> 63
				stop = b.quote&^esc | b.ctrl | esc&^b.simple
			}
			if stop != 0 {
				at := bits.TrailingZeros64(stop)
				bit := uint64(1) << at
				slack += bits.OnesCount64(esc & (bit - 1))
				switch {
				case esc&bit != 0:
					return i + at - 1, slack, false
				case b.quote&bit != 0:
					return i + at + 1, slack, true
				}
				return i + at, slack, false
			}
			slack += bits.OnesCount64(esc)
			escaped = after
			i += 64
		}
		want = blocksMax
	}
	return i - int(escaped), slack, false
}

// wideString is blockString where scanWide may be used.
func wideString(p []byte, i, slack int) (end, slackNow int, found bool) {
	s := stretch{slack: slack}
	for n := len(p) - i; n >= 64; n = len(p) - i {
		n = min(n>>6, stretchMax)
		k := scanWide(p[i:], n, &s)
		if i += k << 6; k == n {
			continue
		}
		at := bits.TrailingZeros64(s.stop)
		bit := uint64(1) << at
		slack = s.slack + bits.OnesCount64(s.esc&(bit-1))
		switch {
		case s.esc&bit != 0:
			return i + at - 1, slack, false
		case s.quote&bit != 0:
			return i + at + 1, slack, true
		}
		return i + at, slack, false
	}
	return i - int(s.escaped), s.slack, false
}
