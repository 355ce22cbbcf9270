package queue

import "time"

// residents are the models that a backend of few holds, as what it was given to
// serve has it. Without a bound it keeps nothing.
type residents struct {
	most    int
	held    []resident
	swapped time.Time // when one took another's place last
	swaps   int       // since the start
}

// resident is one model that is held.
type resident struct {
	model   string
	running int
	last    time.Time // when a request for it began or ended last
	yields  bool      // it makes room for another: nothing more is served of it
}

// resize takes a new bound. What is held beyond it is forgotten.
func (m *residents) resize(most int) {
	m.most = max(most, 0)
	m.held = m.held[:min(len(m.held), m.most)]
}

func (m *residents) at(model string) int {
	for i := range m.held {
		if m.held[i].model == model {
			return i
		}
	}
	return -1
}

// holds says whether a model is there, as far as is known.
func (m *residents) holds(model string) bool { return m.most == 0 || m.at(model) >= 0 }

// ready says whether a model can be served without another making room.
func (m *residents) ready(model string) bool {
	if m.most == 0 {
		return true
	}
	if i := m.at(model); i >= 0 {
		return !m.held[i].yields
	}
	return len(m.held) < m.most
}

// wanted is the request for whose model another makes room: of those for models
// that are not there the one that waits the longest. nil when there is none, or its
// time has not come.
//
// A model that was swapped in stays for a residence as long as requests for it come
// with no more than a pause between them; then, when another has been waited for as
// long, it serves no more and makes room once it has come to rest. So models are
// swapped once in a residence, and none is waited for much longer than a residence
// for each model before it.
func (m *residents) wanted(waiting []*Place, now time.Time, opt *Options) *Place {
	if m.most == 0 || len(m.held) < m.most {
		return nil
	}
	w, out := m.change(waiting)
	for i := range m.held {
		m.held[i].yields = false
	}
	if w == nil {
		return nil
	}
	h := &m.held[out]
	stayed := now.Sub(m.swapped) >= opt.Residence
	due := stayed && now.Sub(w.entered) >= opt.Residence
	quiet := h.running == 0 && !asked(waiting, h.model) && (stayed || now.Sub(h.last) >= opt.Pause)
	if h.yields = due || quiet; h.yields {
		return w
	}
	return nil
}

// change is the request that waits the longest for a model that is not there, nil
// for none, and the model that would make room for it: one that nobody waits for,
// used the longest ago.
func (m *residents) change(waiting []*Place) (w *Place, out int) {
	for _, p := range waiting {
		if m.at(p.r.Model) < 0 && (w == nil || p.entered.Before(w.entered)) {
			w = p
		}
	}
	if w == nil {
		return nil, -1
	}
	for i := 1; i < len(m.held); i++ {
		a, b := asked(waiting, m.held[i].model), asked(waiting, m.held[out].model)
		if a != b && b || a == b && m.held[i].last.Before(m.held[out].last) {
			out = i
		}
	}
	return w, out
}

func asked(waiting []*Place, model string) bool {
	for _, p := range waiting {
		if p.r.Model == model {
			return true
		}
	}
	return false
}

// again is when wanted may come to something else though nothing happens; zero for
// never.
func (m *residents) again(waiting []*Place, now time.Time, opt *Options) (at time.Time) {
	if m.most == 0 || len(m.held) < m.most {
		return at
	}
	w, out := m.change(waiting)
	if w == nil {
		return at
	}
	for _, t := range [...]time.Time{m.held[out].last.Add(opt.Pause), m.swapped.Add(opt.Residence), w.entered.Add(opt.Residence)} {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// may says whether a request's model may be served now.
func (m *residents) may(model string, wanted *Place) bool {
	return m.ready(model) || wanted != nil && model == wanted.r.Model && m.rest() >= 0
}

// rest is the model that makes room and has come to rest; -1 for none.
func (m *residents) rest() int {
	for i := range m.held {
		if m.held[i].yields && m.held[i].running == 0 {
			return i
		}
	}
	return -1
}

// serve notes that a request for a model is.
func (m *residents) serve(model string, now time.Time) {
	if m.most == 0 {
		return
	}
	i := m.at(model)
	if i < 0 {
		if len(m.held) < m.most {
			i = len(m.held)
			m.held = append(m.held, resident{})
		} else if i = m.rest(); i >= 0 {
			m.swaps++
			m.swapped = now
		} else { // let in before the bound was as it is
			return
		}
		m.held[i] = resident{model: model}
	}
	m.held[i].running++
	m.held[i].last = now
}

// leave notes that one ended.
func (m *residents) leave(model string, now time.Time) {
	if i := m.at(model); i >= 0 && m.held[i].running > 0 {
		m.held[i].running--
		m.held[i].last = now
	}
}
