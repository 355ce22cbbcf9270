package shaping

import (
	"fmt"
	"slices"

	"nearside/catalog"
	"nearside/shaping/wire"
)

// What becomes of images for a model that reads none.
const (
	ImagesNext        = "next"        // the next target of the plan that does
	ImagesError       = "error"       // the request is refused
	ImagesPlaceholder = "placeholder" // a text says that there was one
)

// The texts are OpenClaw's: models were seen to cope with them.
const (
	imageOmitted     = "(image omitted: model does not support images)"
	toolImageOmitted = "(tool image omitted: model does not support images)"
)

// UnsupportedImages says what becomes of images for this model, if it reads none:
// never empty.
func (s *Shape) UnsupportedImages() string {
	switch {
	case s.compat.UnsupportedImages != "":
		return s.compat.UnsupportedImages
	case s.opt.UnsupportedImages != "":
		return s.opt.UnsupportedImages
	}
	return ImagesNext
}

// DataImages says whether the backend takes images only when they stand in the
// request, as data: URLs: the caller then fetches remote ones.
func (s *Shape) DataImages() bool { return yes(s.compat.RequiresDataImages) }

// LeftOut is how much of a request's text (Envelope.TextBytes) this model is not
// sent: its tools, or those of them that are left out. Which ones a cap keeps is
// known when the request is shaped; until then they are the first.
func (s *Shape) LeftOut(body []byte, env *wire.Envelope) (bytes int64) {
	c := &s.compat
	if !env.Tools.Present() || !no(c.SupportsTools) && !yes(c.Lean) && len(c.DropTools) == 0 && c.MaxTools == 0 && c.MaxToolSchemaBytes == 0 {
		return 0
	}
	count, size := 0, 0
	for it := wire.Elements(body, env.Tools); it.Next(); {
		tool := it.Value.Of(body)
		name := nameOfTool(tool)
		switch {
		case no(c.SupportsTools), name != "" && slices.Contains(c.DropTools, name), yes(c.Lean) && slices.Contains(leanTools, name),
			c.MaxTools > 0 && count == c.MaxTools, c.MaxToolSchemaBytes > 0 && size+len(tool) > c.MaxToolSchemaBytes:
			var in wire.Envelope
			if wire.Scan(tool, wire.ScanLimits{}, &in) == nil {
				bytes += in.TextBytes
			}
		default:
			count++
			size += len(tool)
		}
	}
	return bytes
}

// omits says whether images are left out for this model.
func (s *Shape) omits() bool {
	takes, _ := s.model.Takes(catalog.InputImage)
	return !takes && s.UnsupportedImages() == ImagesPlaceholder
}

// conversation begins to revise the messages or items of a request that has images.
func (r *Request) conversation() revision {
	switch {
	case !r.draft.env.Images:
		return revision{slot: -1}
	case r.draft.find("messages") >= 0:
		return r.revision("messages")
	}
	return r.revision("input")
}

// omitImagesRule puts a text in the place of each image; several in a row get
// one.
func omitImagesRule(s *Shape, r *Request) error {
	kind := "text"
	if s.backend == wire.Responses {
		kind = "input_text"
	}
	var edits []wire.Edit
	var parts []mediaPart
	v := r.conversation()
	for v.next() {
		msg := v.item()
		edits, parts = edits[:0], parts[:0]
		mediaIn(msg, wire.Whole(msg), func(p mediaPart) {
			switch {
			case p.kind != catalog.InputImage:
			case p.follows:
				edits[len(edits)-1].End = p.at.End
			default:
				text := imageOmitted
				if p.tool {
					text = toolImageOmitted
				}
				edits = append(edits, wire.Edit{Span: p.at, With: fmt.Appendf(nil, `{"type":%q,"text":%q}`, kind, text)})
				parts = append(parts, p)
			}
		})
		if len(edits) == 0 {
			continue
		}
		for i, e := range edits {
			v.note(parts[i].path(), e.Of(msg), e.With, "", false)
		}
		v.replace(wire.Splice(nil, msg, edits))
	}
	if v.done() {
		r.draft.drops = append(r.draft.drops, dropOf(v.slot, "images"))
	}
	return nil
}

// dataImagesRule puts the images that were fetched in the place of their
// addresses. Others stay: the caller has decided that they may.
func dataImagesRule(_ *Shape, r *Request) error {
	images := r.draft.images
	var edits []wire.Edit
	v := r.conversation()
	for v.next() {
		msg := v.item()
		edits = edits[:0]
		mediaIn(msg, wire.Whole(msg), func(p mediaPart) {
			if p.kind != catalog.InputImage || !remote(p.url.Of(msg)) {
				return
			}
			m := imageAt(images, p.url.Of(msg))
			switch {
			case m != nil && p.source.Present():
				e := wire.Edit{Span: p.source, With: fmt.Appendf(nil, `{"type":"base64","media_type":%q,"data":"%s}`, m.Type, m.value[m.data:])}
				edits = append(edits, e)
				v.note(p.path(), e.Of(msg), e.With, "", false)
			case m != nil:
				e := wire.Edit{Span: p.url, With: m.value}
				edits = append(edits, e)
				v.note(p.path(), e.Of(msg), e.With, "", false)
			case len(images) == 0: // explain fetches nothing
				v.note(p.path(), nil, nil, r.draft.rule.Why+"; it is fetched when the request is sent", false)
			}
		})
		if len(edits) > 0 {
			v.replace(wire.Splice(nil, msg, edits))
		}
	}
	v.done()
	return nil
}

// imageAt returns the image that was fetched from a quoted address, or nil.
func imageAt(images []Image, quoted []byte) *Image {
	for i := range images {
		if wire.EqualString(quoted, images[i].URL) {
			return &images[i]
		}
	}
	return nil
}
