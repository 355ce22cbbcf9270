package shaping

import (
	"encoding/base64"
	"strconv"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// Media is what of a prompt is no text.
type Media struct {
	Images int
	Remote int // of the images, those that stand at an address instead of in the request
	Audio  int
	Video  int
}

// MediaOf counts the parts of a request of any dialect that are no text: in
// messages or items, and in the outputs of tools. It looks only where the scan
// has seen the type of one; an argument of a tool that is called so is none.
func MediaOf(body []byte, env *wire.Envelope) Media {
	var m Media
	if !env.Images && !env.Audio && !env.Video {
		return m
	}
	eachMedia(body, env.Messages, func(p mediaPart) {
		switch p.kind {
		case catalog.InputImage:
			m.Images++
			if remote(p.url.Of(body)) {
				m.Remote++
			}
		case catalog.InputAudio:
			m.Audio++
		case catalog.InputVideo:
			m.Video++
		}
	})
	return m
}

// RemoteImages returns the addresses of a request's images that stand at one,
// each once.
func RemoteImages(body []byte, env *wire.Envelope) []string {
	var all []string
	seen := map[string]bool{}
	eachMedia(body, env.Messages, func(p mediaPart) {
		if p.kind != catalog.InputImage || !remote(p.url.Of(body)) {
			return
		}
		u, _ := wire.AppendUnquoted(nil, p.url.Of(body))
		if !seen[string(u)] {
			seen[string(u)] = true
			all = append(all, string(u))
		}
	})
	return all
}

// Image is a remote image that was fetched for a backend which takes images in
// the request only.
type Image struct {
	URL   string // as RemoteImages returns it
	Type  string // image/png, …
	value []byte // its data: URL, quoted
	data  int    // where in value the base64 begins
}

// NewImage encodes an image.
func NewImage(url, mediaType string, data []byte) Image {
	head := `"data:` + mediaType + `;base64,`
	value := append(make([]byte, 0, len(head)+base64.StdEncoding.EncodedLen(len(data))+1), head...)
	value = base64.StdEncoding.AppendEncode(value, data)
	return Image{URL: url, Type: mediaType, value: append(value, '"'), data: len(head)}
}

// Size is how many bytes the image is in a request.
func (m Image) Size() int { return len(m.value) }

// mediaPart is one part of a prompt that is no text.
type mediaPart struct {
	kind    string    // in catalog's words
	at      wire.Span // the whole part
	url     wire.Span // the string that says where it is, or all of it; may be absent
	source  wire.Span // in Messages: the object around the url
	tool    bool      // in what a tool put out
	result  bool      // in a block within the content that is a tool's result
	follows bool      // on one of its kind

	member string // of the message: content or output
	i      int    // of the part
	inner  int    // of the part within a tool's result, which i is then; -1
}

// path is where the part stands, in a message.
func (p *mediaPart) path() string {
	s := p.member + "[" + strconv.Itoa(p.i) + "]"
	if p.inner >= 0 {
		s += ".content[" + strconv.Itoa(p.inner) + "]"
	}
	return s
}

// eachMedia calls f with every part of the messages or items at at that is no
// text, in order.
func eachMedia(body []byte, at wire.Span, f func(mediaPart)) {
	for it := wire.Elements(body, at); it.Next(); {
		mediaIn(body, it.Value, f)
	}
}

// mediaIn is eachMedia for one message or item.
func mediaIn(body []byte, message wire.Span, f func(mediaPart)) {
	role, _ := wire.Get(body, message, "role")
	for m := wire.Members(body, message); m.Next(); {
		p := mediaPart{inner: -1, tool: wire.EqualString(role.Of(body), "tool")}
		switch {
		case body[m.Value.Start] != '[':
			continue
		case m.Is("content"):
			p.member = "content"
		case m.Is("output"):
			p.member, p.tool = "output", true
		default:
			continue
		}
		eachPart(body, m.Value, p, f)
	}
}

// eachPart is eachMedia for one list of parts; like is what all of them share.
func eachPart(body []byte, list wire.Span, like mediaPart, f func(mediaPart)) {
	last, k := "", 0
	for it := wire.Elements(body, list); it.Next(); k++ {
		p := like
		if p.result {
			p.inner = k
		} else {
			p.i = k
		}
		p.at = it.Value
		t := typeToken(body, it.Value)
		switch p.kind = mediaKind(t); {
		case p.kind == catalog.InputImage && !wire.EqualString(t, "image"):
			u, ok := wire.Get(body, it.Value, "image_url")
			if ok && body[u.Start] == '{' {
				u, _ = wire.Get(body, u, "url")
			}
			p.url = u
		case p.kind == catalog.InputImage:
			p.source, _ = wire.Get(body, it.Value, "source")
			p.url, _ = wire.Get(body, p.source, "url")
		case wire.EqualString(t, "tool_result") && !p.result:
			if c, ok := wire.Get(body, it.Value, "content"); ok && body[c.Start] == '[' {
				p.tool, p.result = true, true
				eachPart(body, c, p, f)
			}
		}
		if p.kind != "" {
			p.follows = p.kind == last
			f(p)
		}
		last = p.kind
	}
}

// typeToken is the type of a part, quoted.
func typeToken(body []byte, part wire.Span) []byte {
	kind, _ := wire.Get(body, part, "type")
	return kind.Of(body)
}

// mediaKind is what a type of parts is called in the catalogue; empty for what
// is no media.
func mediaKind(t []byte) string {
	switch {
	case wire.EqualString(t, "image_url"), wire.EqualString(t, "input_image"), wire.EqualString(t, "image"):
		return catalog.InputImage
	case wire.EqualString(t, "input_audio"), wire.EqualString(t, "audio"):
		return catalog.InputAudio
	case wire.EqualString(t, "video_url"), wire.EqualString(t, "input_video"), wire.EqualString(t, "video"):
		return catalog.InputVideo
	}
	return ""
}

// remote says whether a quoted string is a web address.
func remote(quoted []byte) bool {
	if len(quoted) < 9 || quoted[1]|0x20 != 'h' {
		return false
	}
	u, _ := wire.AppendUnquoted(nil, quoted)
	return hasPrefixFold(u, "http://") || hasPrefixFold(u, "https://")
}

// hasPrefixFold says whether p begins with a lower-case prefix, in any case.
func hasPrefixFold(p []byte, prefix string) bool {
	if len(p) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := p[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}
