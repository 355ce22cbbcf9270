package shaping

// fences follows Markdown's code through a text, byte by byte: fenced blocks,
// and code between backticks, which ends at its line's end at the latest. What
// stands in code is an example, not markup. The zero fences is at the start of
// a text.
type fences struct {
	run     int  // length of the run of marks that was read last
	mark    byte // of which it is
	leads   bool // it began its line
	ticks   int  // backticks that opened the code in this line; 0 outside of it
	fence   int  // marks that opened the block; 0 outside of one
	of      byte // of which they are
	inside  bool // the line has had something in it
	indent  bool // or white space
	info    bool // the line is the one that opened the block
	closing bool // the line may be the one that closes it
}

// step goes over one byte.
func (f *fences) step(b byte) {
	if f.run > 0 && b != f.mark {
		f.settle()
	}
	switch b {
	case '`', '~':
		if f.run == 0 {
			f.mark, f.leads = b, !f.inside
		}
		f.run++
		f.inside = true
	case '\n', '\r':
		if f.closing {
			f.fence = 0
		}
		f.inside, f.indent, f.info, f.closing, f.ticks = false, false, false, false, 0
	case ' ', '\t':
		f.indent = true
	default:
		f.inside, f.closing = true, false
	}
}

// settle judges a run of marks that has ended.
func (f *fences) settle() {
	n := f.run
	f.run = 0
	switch {
	case f.fence > 0 && f.leads && f.mark == f.of && n >= f.fence:
		f.closing = true
	case f.fence > 0 && f.info && f.mark == '`' && f.of == '`':
		f.fence, f.info = 0, false // it was code in a line
	case f.fence > 0:
	case f.leads && n >= 3 && f.ticks == 0:
		f.fence, f.of, f.info = n, f.mark, true
	case f.mark == '~':
	case f.ticks == 0:
		f.ticks = n
	case f.ticks == n:
		f.ticks = 0
	}
}

// code says whether what comes next, which is no mark, stands in code.
func (f *fences) code() bool {
	if f.run > 0 {
		f.settle()
	}
	return f.fence > 0 || f.ticks > 0
}

// fresh says whether what comes next begins a line, without any indent.
func (f *fences) fresh() bool { return !f.inside && !f.indent }
