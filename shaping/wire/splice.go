package wire

// Splice appends body with edits applied to dst. The edits must be sorted and
// must not overlap, as Edits yields them.
func Splice(dst, body []byte, edits []Edit) []byte {
	at := 0
	for i := range edits {
		dst = append(dst, body[at:edits[i].Start]...)
		dst = append(dst, edits[i].With...)
		at = edits[i].End
	}
	return append(dst, body[at:]...)
}

// SplicedLen returns how many bytes Splice appends.
func SplicedLen(body []byte, edits []Edit) int {
	n := len(body)
	for i := range edits {
		n += len(edits[i].With) - (edits[i].End - edits[i].Start)
	}
	return n
}

// Segments appends the pieces of the spliced body to dst, for a vectored write:
// they point into body and the edits and stay valid as long as those do. Empty
// pieces are left out.
func Segments(dst [][]byte, body []byte, edits []Edit) [][]byte {
	at := 0
	for i := range edits {
		if edits[i].Start > at {
			dst = append(dst, body[at:edits[i].Start])
		}
		if len(edits[i].With) > 0 {
			dst = append(dst, edits[i].With)
		}
		at = edits[i].End
	}
	if at < len(body) {
		dst = append(dst, body[at:])
	}
	return dst
}
