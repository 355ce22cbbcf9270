package upstream

import (
	"bytes"
	"errors"
	"strconv"
)

// Head is the head of an answer, as far as anybody here asks. Its block is
// kept until the attempt's next use.
type Head struct {
	Status    int
	Length    int64 // -1 chunked, -2 until the connection ends
	KeepAlive bool
	block     []byte // header lines, without the status line

	// Values that every answer is asked for; parts of block, nil where there is none.
	contentType, contentEncoding, simulated []byte
}

var errHead = errors.New("malformed head of the answer")

// ContentType and ContentEncoding return what the answer says of its body, and
// Simulated whether it is a simulated server's.
func (h *Head) ContentType() []byte     { return h.contentType }
func (h *Head) ContentEncoding() []byte { return h.contentEncoding }
func (h *Head) Simulated() bool         { return string(h.simulated) == "1" }

// Get returns the first header of that name, or nil. name is lower-case.
func (h *Head) Get(name string) []byte {
	for rest := h.block; len(rest) > 0; {
		var line []byte
		line, rest = cutLine(rest)
		i := bytes.IndexByte(line, ':')
		if i == len(name) && foldEqual(line[:i], name) {
			return trimmed(line[i+1:])
		}
	}
	return nil
}

func cutLine(p []byte) (line, rest []byte) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return p, nil
	}
	return bytes.TrimSuffix(p[:i], crlf[:1]), p[i+1:]
}

func foldEqual(p []byte, lower string) bool {
	if len(p) != len(lower) {
		return false
	}
	for i, c := range p {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// trimmed is a header's value without the white space around it.
func trimmed(p []byte) []byte {
	for len(p) > 0 && (p[0] == ' ' || p[0] == '\t') {
		p = p[1:]
	}
	for len(p) > 0 && (p[len(p)-1] == ' ' || p[len(p)-1] == '\t') {
		p = p[:len(p)-1]
	}
	return p
}

// headEnd returns the length of the head that p begins with, its blank line
// included, or 0 when it is not all there.
func headEnd(p []byte) int {
	for i := 0; ; {
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			return 0
		}
		i += j + 1
		if i < len(p) && p[i] == '\n' {
			return i + 1
		}
		if i+1 < len(p) && p[i] == '\r' && p[i+1] == '\n' {
			return i + 2
		}
	}
}

// parse reads a whole head. Framing that two readers could understand in two
// ways is refused.
func (h *Head) parse(p []byte) error {
	line, rest := cutLine(p)
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) || line[8] != ' ' {
		return errHead
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil || status < 100 || len(line) > 12 && line[12] != ' ' {
		return errHead
	}
	h.Status, h.Length, h.KeepAlive = status, -2, line[7] == '1'
	h.block = append(h.block[:0], rest...)
	h.contentType, h.contentEncoding, h.simulated = nil, nil, nil
	length, coded := int64(-1), false
	for rest = h.block; len(rest) > 0; {
		line, rest = cutLine(rest)
		if len(line) == 0 {
			break
		}
		i := bytes.IndexByte(line, ':')
		if i <= 0 || line[0] == ' ' || line[0] == '\t' {
			return errHead
		}
		name, value := line[:i], trimmed(line[i+1:])
		switch i { // few lines are as long as one that matters
		case len("connection"), len("content-type"), len("content-length"), len("content-encoding"), len("transfer-encoding"), len("x-nearside-simulated"):
		default:
			continue
		}
		switch {
		case foldEqual(name, "content-type"):
			if h.contentType == nil {
				h.contentType = value
			}
		case foldEqual(name, "content-encoding"):
			if h.contentEncoding == nil {
				h.contentEncoding = value
			}
		case foldEqual(name, "x-nearside-simulated"):
			if h.simulated == nil {
				h.simulated = value
			}
		case foldEqual(name, "content-length"):
			n, err := strconv.ParseInt(string(value), 10, 63)
			if err != nil || n < 0 || value[0] == '+' || length >= 0 && length != n {
				return errHead
			}
			length = n
		case foldEqual(name, "transfer-encoding"):
			if coded || !bytes.EqualFold(value, []byte("chunked")) {
				return errHead
			}
			coded = true
		case foldEqual(name, "connection"):
			if bytes.EqualFold(value, []byte("close")) {
				h.KeepAlive = false
			} else if line[0]|0x20 == 'c' && bytes.EqualFold(value, []byte("keep-alive")) {
				h.KeepAlive = true
			}
		}
	}
	switch {
	case status < 200 || status == 204 || status == 304:
		h.Length = 0
	case coded:
		h.Length = -1 // a Content-Length beside it is ignored, and the connection not kept
		h.KeepAlive = h.KeepAlive && length < 0
	case length >= 0:
		h.Length = length
	default:
		h.KeepAlive = false
	}
	return nil
}
