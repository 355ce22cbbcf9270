package wire

import (
	"bytes"
	"mime"
	"strings"
)

const (
	formParts     = 64
	formHeadBytes = 8 << 10
	formModelMax  = 1 << 10
)

// FormModel returns the place and text of the field "model" of a multipart form
// whose boundary the content type gave. It says false when there is none, when
// there is more than one (parsers disagree about which counts), when it is a
// file or longer than 1 KiB (of these two the place is still told), and when the form is malformed, is cut off or has
// more than 64 parts.
func FormModel(body []byte, boundary string) (Span, string, bool) {
	if boundary == "" || len(boundary) > 70 {
		return Span{}, "", false
	}
	var (
		delim = []byte("\r\n--" + boundary)
		at    int
		model Span
		found bool
	)
	// The first delimiter may stand at the very start.
	if bytes.HasPrefix(body, delim[2:]) {
		at = len(delim) - 2
	} else if k := bytes.Index(body, delim); k >= 0 {
		at = k + len(delim)
	} else {
		return Span{}, "", false
	}
	for range formParts {
		rest := body[at:]
		if bytes.HasPrefix(rest, []byte("--")) {
			return model, string(model.Of(body)), found
		}
		line := bytes.TrimLeft(rest[:min(len(rest), 64)], " \t")
		if !bytes.HasPrefix(line, []byte("\r\n")) {
			return Span{}, "", false
		}
		at += len(rest[:min(len(rest), 64)]) - len(line)
		head := body[at:min(len(body), at+formHeadBytes)]
		k := bytes.Index(head, []byte("\r\n\r\n"))
		if k < 0 {
			return Span{}, "", false
		}
		head = head[:k]
		start := at + k + 4
		// An empty part's delimiter begins with the line end of its head.
		end := bytes.Index(body[start-2:], delim)
		if end < 0 {
			return Span{}, "", false
		}
		end += start - 2
		at = end + len(delim)
		end = max(end, start)
		if !isModelField(head) {
			continue
		}
		if found || end-start > formModelMax {
			return Span{start, max(end, start+1)}, "", false
		}
		model, found = Span{start, end}, true
	}
	return Span{}, "", false
}

// isModelField says whether a part's head is that of the field "model".
func isModelField(head []byte) bool {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !bytes.EqualFold(bytes.TrimSpace(name), []byte("content-disposition")) {
			continue
		}
		kind, params, err := mime.ParseMediaType(strings.TrimSpace(string(value)))
		if err != nil || kind != "form-data" {
			continue
		}
		if _, isFile := params["filename"]; !isFile && params["name"] == "model" {
			return true
		}
	}
	return false
}
