package proxy

import (
	"fmt"
	"strings"

	"nearside/catalog"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// weighInput looks whether a target can read a request and hold it. What is
// only thought, of an estimate or a name, is no reason to refuse: such a target is
// skipped as long as there is another (Step.soft).
func (s *Server) weighInput(snap *Snapshot, st *Step, r *request) {
	t := st.target
	m, shape := t.model, t.shape(r.dialect)
	kind, known := t.blind(r)
	switch {
	case kind != "":
		st.skip, st.kind, st.Reason = skipInput, kind, blindReason(m, kind, known)
		if !known {
			st.soft = "its name suggests that it reads no images"
		}
	case r.media.Remote > 0 && shape.DataImages() && !snap.Config.Inputs.FetchImages && !t.omits(r.dialect):
		st.skip = skipRemote
		st.Reason = "its server takes images only as data: URLs: send them so, or set proxy.inputs.fetchImages: true to have them fetched"
	case r.media.Remote > 0 && shape.DataImages() && r.inside && !snap.Config.Inputs.FetchPrivate && !t.omits(r.dialect):
		st.skip = skipRemote
		st.Reason = "its server takes images only as data: URLs, and none is fetched from outside for a request that is near only: send them so, or set proxy.inputs.fetchPrivate: true for those in your own network"
	}
	if st.skip != skipNot && st.soft == "" || !snap.Config.Context.Preflight || r.size == (catalog.Prompt{}) {
		return
	}
	output := r.output
	if m.Provider.Kind == catalog.KindOpenAI { // whose windows are its prompts' alone
		output = 0
	}
	e, size := t.size(r.size, r.body, r.env, r.dialect)
	st.Size = size
	switch fit := t.window.Fit(e, output); {
	case fit == catalog.TooLong:
		st.skip, st.soft, st.Reason = skipContext, "", size.tooLong(r, output, m.Window().Remedy(), false)
	case fit == catalog.MayFit:
		st.skip, st.Reason = skipContext, size.tooLong(r, output, m.Window().Remedy(), true)
		st.soft = strings.TrimPrefix(st.soft+"; it may not fit its window: "+size.about(r, output), "; ")
	}
}

// blind returns what of a request the target's model does not read, and whether
// that is known; empty when it reads all, or when what it does not is left out.
func (t *target) blind(r *request) (kind string, known bool) {
	for _, has := range [...]struct {
		kind string
		n    int
	}{{catalog.InputImage, r.media.Images}, {catalog.InputAudio, r.media.Audio}, {catalog.InputVideo, r.media.Video}} {
		if has.n == 0 {
			continue
		}
		takes, known := t.model.Takes(has.kind)
		if takes || has.kind == catalog.InputImage && t.omits(r.dialect) {
			continue
		}
		// Whoever chose to have them refused does not want a guess tried.
		return has.kind, known || has.kind == catalog.InputImage && t.shapes[r.dialect].UnsupportedImages() == shaping.ImagesError
	}
	return "", false
}

// omits says whether the images of a request in a dialect are left out for the
// target.
func (t *target) omits(d wire.Dialect) bool {
	takes, _ := t.model.Takes(catalog.InputImage)
	return !takes && t.shapes[d].UnsupportedImages() == shaping.ImagesPlaceholder
}

func blindReason(m *catalog.Model, kind string, known bool) string {
	why := "its input is " + strings.Join(m.Input, ", ")
	if m.InputGuessed {
		why = "as its name suggests"
	}
	text := fmt.Sprintf("the model reads no %s (%s): if it does, add %q to input of %q in models.providers.%s.models", kind, why, kind, m.ID, m.Provider.ID)
	if kind == catalog.InputImage {
		text += `; proxy.inputs.unsupportedImages: "placeholder" leaves images out`
	}
	return text
}

// about says the numbers of a request at a target.
func (z Size) about(r *request, output int) string {
	text := fmt.Sprintf("about %d prompt tokens (%d bytes of text", z.Prompt, r.size.TextBytes)
	if r.size.Images > 0 {
		text += fmt.Sprintf(", %d images", r.size.Images)
	}
	if z.Seen > 0 {
		text += fmt.Sprintf(", at %.2f tokens for four bytes as its usage reports show", z.Ratio)
	}
	text += ")"
	if output > 0 {
		text += fmt.Sprintf(" and %d for the answer", output)
	}
	return text
}

// tooLong says why a request is not sent to a target, and what to do about it.
func (z Size) tooLong(r *request, output int, remedy string, maybe bool) string {
	verb := "do not fit"
	if maybe {
		verb = "may not fit"
	}
	text := z.about(r, output)
	if !maybe {
		text += fmt.Sprintf(", %d of the prompt at the least,", z.Least)
	}
	return fmt.Sprintf("%s %s its context window of %d tokens (%s): send less, or %s", text, verb, z.Window, z.From, remedy)
}
