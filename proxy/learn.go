package proxy

import (
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goccy/go-json"

	"nearside/catalog"
	"nearside/proxy/fault"
	"nearside/shaping"
	"nearside/shaping/wire"
)

// The bounds of learning.
const (
	lessonTries   = 4   // how often a request is repeated at one target
	lessonsKept   = 64  // of one model
	lessonWordsAt = 300 // bytes kept of what a backend said
)

// learning is what backends taught by refusing, until the configuration is
// loaded again.
type learning struct {
	mu     sync.Mutex // guards all below
	models map[string]*knowledge
	order  []string // refs that were taught something, the oldest first
	loads  int      // of the configuration; what was begun before one is not kept after it
}

// knowledge is what is known of one model by its refusals. All exchanges with it
// share it.
type knowledge struct {
	flags   atomic.Pointer[catalog.Compat] // never changed once it is there; nil for none
	model   *catalog.Model                 // guarded by learning.mu, as what follows
	lessons []Learned
}

// Learned is one thing that a backend taught by refusing a request.
type Learned struct {
	Model   string    `json:"model"`  // ref
	Lesson  string    `json:"lesson"` // its name
	Why     string    `json:"why"`    // what the backend does not take
	Flag    string    `json:"flag"`
	Value   rawJSON   `json:"value,omitempty"`
	Setting string    `json:"setting"` // the line of the configuration that makes it permanent
	Words   string    `json:"words"`   // of the refusal: what of it was understood
	At      time.Time `json:"at"`
	Helped  bool      `json:"helped"`
}

// rawJSON is a value as it stands.
type rawJSON = json.RawMessage

// of returns what is known of a model. A model that the configuration does not
// list is remembered once it taught something: clients make them up.
func (l *learning) of(m *catalog.Model, ref string) *knowledge {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.models[ref]
	if k == nil {
		k = &knowledge{model: m}
		if m.Declared {
			l.keep(ref, k)
		}
	}
	return k
}

func (l *learning) keep(ref string, k *knowledge) {
	if l.models == nil {
		l.models = map[string]*knowledge{}
	}
	l.models[ref] = k
}

// begun returns which load of the configuration a lesson begins under.
func (l *learning) begun() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loads
}

// add remembers a lesson and says whether it is new. At most most models are
// remembered; the one that was taught longest ago makes room.
func (l *learning) add(k *knowledge, m *catalog.Model, loads int, flags *catalog.Compat, note Learned, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if loads != l.loads {
		return false
	}
	if kept := l.models[note.Model]; kept != nil {
		k = kept
	}
	grown, changed := k.flags.Load().Grown(flags)
	if !changed || len(k.lessons) >= lessonsKept {
		return false
	}
	if len(k.lessons) == 0 {
		for len(l.order) >= most {
			l.forget(l.order[0])
		}
		l.keep(note.Model, k)
		l.order = append(l.order, note.Model)
	}
	k.model = m
	k.lessons = append(k.lessons, note)
	k.flags.Store(grown)
	return true
}

// forget takes a model's lessons away. mu is held.
func (l *learning) forget(ref string) {
	k := l.models[ref]
	k.flags.Store(nil)
	k.lessons = nil
	l.order = slices.DeleteFunc(l.order, func(r string) bool { return r == ref })
	if !k.model.Declared {
		delete(l.models, ref)
	}
}

// reset forgets everything.
func (l *learning) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads++
	for len(l.order) > 0 {
		l.forget(l.order[0])
	}
}

// list returns the lessons, of one model unless ref is empty, by when their
// models were first taught. Settings are as they would have to be written now.
func (l *learning) list(ref string) []Learned {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []Learned{}
	for _, r := range l.order {
		if ref != "" && r != ref {
			continue
		}
		k := l.models[r]
		flags := k.flags.Load()
		for _, n := range k.lessons {
			var value string
			n.Setting, value = shaping.LearnedSetting(k.model, flags, n.Flag)
			n.Value = rawJSON(value)
			all = append(all, n)
		}
	}
	return all
}

// learnedShapes are a target's shapes with some learned flags.
type learnedShapes struct {
	flags *catalog.Compat
	of    [wire.Plain + 1]*shaping.Shape
}

// shape returns the target's shape for a client's dialect with what is known of
// the model now; nil when there is no way to say such a request to it.
func (t *target) shape(d wire.Dialect) *shaping.Shape {
	flags := t.known.flags.Load()
	if flags == nil || t.shapes[d] == nil {
		return t.shapes[d]
	}
	if made := t.learned.Load(); made != nil && made.flags == flags {
		return made.of[d]
	}
	made := &learnedShapes{flags: flags}
	for d := range t.shapes {
		if t.shapes[d] != nil {
			made.of[d] = t.shapes[d].With(flags)
		}
	}
	t.learned.Store(made) // another exchange may have done the same
	return made.of[d]
}

// trial is what an exchange tries out at one target because of a refusal.
type trial struct {
	target *target
	shape  *shaping.Shape // with what is tried out; nil before the first lesson
	flags  *catalog.Compat
	times  int // lessons tried
	loads  int // see learning.begun

	// The last lesson, of which it is not known yet whether it helps.
	open    bool
	taught  shaping.Taught
	note    int             // its place in Receipt.Learned
	without *catalog.Compat // flags before it
}

// learn ends an attempt that the backend refused in words that a flag answers:
// the same target is asked again, shaped anew. It is false when there is nothing
// to learn, or nothing any more.
func (x *exchange) learn(err error) bool {
	if !x.snap.Config.Learning || x.form != "" || x.content {
		return false
	}
	e := objection(err)
	if e == nil {
		x.unlearn()
		return false
	}
	t, tr := x.cur, x.trial
	if tr == nil || tr.target != t {
		if tr == nil {
			tr = new(trial)
			x.trial = tr
		}
		*tr = trial{target: t, flags: t.known.flags.Load(), loads: x.s.learned.begun()}
	}
	now := x.as // another exchange may have learned the same meanwhile
	body, env := x.request()
	taught, ok := now.Learn(e, body, env, x.shaped)
	if !ok || tr.open && tr.taught.Persists(e) {
		x.unlearn()
	} else {
		x.learned() // the refusal is another one: the last lesson helped
	}
	if !ok || x.unhelpful(t, taught.Flag) {
		return false
	}
	if tr.times == lessonTries {
		return false
	}
	was := sum(x.parts)
	shape, without := tr.shape, tr.flags
	tr.flags, _ = without.Grown(&taught.Flags)
	tr.shape = now.With(tr.flags)
	fetches := tr.shape.DataImages() && !now.DataImages() && x.media.Remote > 0 && x.snap.Config.Inputs.FetchImages
	if x.shape(t) != nil || sum(x.parts) == was && !fetches { // images are fetched before the next try
		// The flag does nothing for this request: what was refused stands.
		if tr.shape.DataImages() && !now.DataImages() {
			e.Message += " (the backend seems to take images as data alone: proxy.inputs.fetchImages: true lets the proxy fetch those that are at an address)"
		}
		tr.shape, tr.flags = shape, without
		_ = x.shape(t)
		return false
	}
	words := clip(x.cur.backend.Mask(taught.Words))
	tr.times++
	tr.open, tr.taught, tr.without = true, taught, without
	tr.note = len(x.receipt.Learned)
	x.receipt.Learned = append(x.receipt.Learned, Learned{Model: t.ref, Lesson: taught.Lesson.Name, Why: taught.Lesson.Why, Flag: taught.Flag,
		Setting: taught.Setting(t.ref), Words: words, At: time.Now()})
	x.abandonFor("learned", "the backend refused it: "+clip(x.cur.backend.Mask(e.Message))+"; tried again with "+taught.Flag+": "+taught.Value)
	x.onceMore()
	return true
}

// unhelpful says whether a flag was tried out at the target and did not help.
func (x *exchange) unhelpful(t *target, flag string) bool {
	return slices.ContainsFunc(x.receipt.Learned, func(n Learned) bool { return n.Model == t.ref && n.Flag == flag && !n.Helped })
}

// shapeOf returns the shape of the present request for a target.
func (x *exchange) shapeOf(t *target) *shaping.Shape {
	if tr := x.trial; tr != nil && tr.target == t && tr.shape != nil {
		return tr.shape
	}
	return t.shape(x.surface.dialect)
}

// learned settles that the last lesson helped: it is remembered for all.
func (x *exchange) learned() {
	tr := x.trial
	if tr == nil || !tr.open || tr.target != x.cur { // that target could not be asked again
		return
	}
	tr.open = false
	note := &x.receipt.Learned[tr.note]
	note.Helped = true
	m := x.cur.model
	x.s.meter.Lesson(m.Provider.ID, note.Lesson, true)
	if x.s.snap.Load().Digest != x.snap.Digest || !x.s.learned.add(x.cur.known, m, tr.loads, &tr.taught.Flags, *note, x.snap.Config.LearnedModels) {
		return
	}
	x.s.log.Info().Str("request", x.receipt.ID).Str("target", note.Model).Str("lesson", note.Lesson).Str("words", note.Words).
		Str("flag", note.Flag).Str("setting", note.Setting).Msg("learned from a refusal; the setting makes it permanent")
}

// unlearn settles that the last lesson did not help: it is dropped again.
func (x *exchange) unlearn() {
	tr := x.trial
	if tr == nil || !tr.open {
		return
	}
	tr.open = false
	note := &x.receipt.Learned[tr.note]
	x.s.meter.Lesson(x.cur.model.Provider.ID, note.Lesson, false)
	x.s.log.Debug().Str("request", x.receipt.ID).Str("target", note.Model).Str("lesson", note.Lesson).Str("words", note.Words).
		Str("flag", note.Flag).Msg("a lesson did not help")
	tr.flags = tr.without
	tr.shape = tr.shape.With(tr.flags)
}

// objection returns what a backend said of a request that it will not take as it
// is; nil for every other failure.
func objection(err error) *wire.Error {
	var be *backendError
	var we *wire.Error
	switch {
	case errors.As(err, &be):
	case errors.As(err, &we): // inside a stream
		be = &backendError{said: *we, inBand: true}
	default:
		return nil
	}
	we = &be.said
	f := be.failure("")
	switch fault.Classify(f) {
	case fault.Format, fault.ModelNotFound, fault.SessionExpired, fault.NotSupported, fault.Unclassified:
	case fault.ServerError:
		if we.Status == 404 { // it ran out of memory
			return nil
		}
	default:
		return nil
	}
	switch we.Status {
	case 400, 404, 422, 500:
		return we
	case 401, 402, 403, 408, 429, 529:
		return nil
	}
	if be.inBand {
		return we
	}
	return nil
}

// sum tells two requests apart.
func sum(parts [][]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(sumSeed)
	for _, p := range parts {
		_, _ = h.Write(p)
	}
	return h.Sum64()
}

var sumSeed = maphash.MakeSeed()

func clip(words string) string {
	if len(words) > lessonWordsAt {
		words = words[:lessonWordsAt] + "…"
	}
	return printable([]byte(words))
}
