package wire

import (
	"cmp"
	"math"
	"slices"
)

// Edits collects what is to change in a body and yields it as sorted edits that
// do not overlap. It is reusable: Reset keeps its capacity. All values handed in
// are JSON texts, are referenced and not copied, and must stay unchanged until
// the edits were spliced.
//
// How operations combine:
//   - of several on the same member or span the last one counts; Set after
//     Remove sets, Remove after Set removes, also a member that Set added;
//   - whatever changes inside a value that is replaced or removed as a whole is
//     dropped, whichever came first;
//   - members that are removed side by side go together with the commas between
//     them, so that the remaining ones are separated by exactly one comma
//     whether the first, middle, last or all were removed;
//   - added members stand at the end of their container, in the order in which
//     they were first set;
//   - insertions at the same place stand in the order in which they were made.
//
// Spans that overlap without one covering the other are the caller's mistake;
// the one that starts first is kept.
type Edits struct {
	body  []byte
	env   *Envelope
	free  []change // replacements and insertions anywhere
	parts []change // removals and additions, which need their neighbours
	list  []Edit
	buf   []byte // what additions are made of
	seq   int    // of the last operation

	// Containers mostly come in the order of the body, each with its operations
	// together: what was done in one is then found without looking at all.
	beyond int // behind the start of the last container in parts; 0 without one
	from   int // where its operations begin in parts, at the earliest
}

// change is one operation. In parts, the span of a removal is that of the whole
// member, key included.
type change struct {
	Edit
	in     int // where the container starts
	key    string
	remove bool
	seq    int // order of the operations; -1 when a later one took this back
}

// Reset starts over for body, of which env is the scan. A nil env is allowed
// when only the operations that name their container are used.
func (e *Edits) Reset(body []byte, env *Envelope) {
	clear(e.free)
	clear(e.parts)
	clear(e.list)
	*e = Edits{body: body, env: env, free: e.free[:0], parts: e.parts[:0], list: e.list[:0], buf: e.buf[:0]}
}

// Replace puts with in the place of the value at at.
func (e *Edits) Replace(at Span, with []byte) {
	e.seq++
	e.free = append(e.free, change{Edit: Edit{Span: at, With: with}, seq: e.seq})
}

// Set gives the top-level member key the value, in its place when the body has
// it and at the end when not.
func (e *Edits) Set(key string, value []byte) {
	f, ok := e.find(key)
	e.set(e.top(), f, ok, key, value)
}

// Remove takes the top-level member key out and says whether the body has it.
func (e *Edits) Remove(key string) bool {
	f, ok := e.find(key)
	e.drop(e.top(), f, ok, key)
	return ok
}

// Rename calls the top-level member key by another name, in its place; it says
// whether the body has it. The caller sees to it that the new name is free.
func (e *Edits) Rename(key, name string) bool {
	f, ok := e.find(key)
	if ok {
		was := len(e.buf)
		e.buf = AppendString(e.buf, name)
		e.Replace(Span{f.Key.Start - 1, f.Key.End + 1}, e.buf[was:len(e.buf):len(e.buf)])
	}
	return ok
}

// SetIn is Set for the members of the object at in. A value that is no object
// stays as it is.
func (e *Edits) SetIn(in Span, key string, value []byte) {
	for it := Members(e.body, in); it.Next(); {
		if it.Is(key) {
			e.set(e.at(in), Field{it.Key, it.Value}, true, key, value)
			return
		}
	}
	e.set(e.at(in), Field{}, false, key, value)
}

// RemoveIn is Remove for the members of the object at in.
func (e *Edits) RemoveIn(in Span, key string) bool {
	for it := Members(e.body, in); it.Next(); {
		if it.Is(key) {
			e.drop(e.at(in), Field{it.Key, it.Value}, true, key)
			return true
		}
	}
	e.drop(e.at(in), Field{}, false, key)
	return false
}

// RemoveElement takes the element at at out of the array at in.
func (e *Edits) RemoveElement(in, at Span) {
	e.seq++
	e.part(change{Edit: Edit{Span: at}, in: e.at(in), remove: true, seq: e.seq})
}

// Append adds value at the end of the array at in. A value that is no array
// stays as it is.
func (e *Edits) Append(in Span, value []byte) {
	e.seq++
	e.part(change{Edit: Edit{With: value}, in: e.at(in), seq: e.seq})
}

func (e *Edits) top() int { return space(e.body, 0) }

func (e *Edits) at(in Span) int { return space(e.body, in.Start) }

func (e *Edits) find(key string) (Field, bool) {
	for _, f := range e.env.Fields {
		if equalKey(f.Key.Of(e.body), key) {
			return f, true
		}
	}
	return Field{}, false
}

// part keeps an operation that needs its neighbours.
func (e *Edits) part(c change) {
	if c.in >= e.beyond {
		e.beyond, e.from = c.in+1, len(e.parts)
	}
	e.parts = append(e.parts, c)
}

// done returns the operations among which are those in the container at in.
func (e *Edits) done(in int) []change {
	switch {
	case in >= e.beyond:
		return nil
	case in+1 == e.beyond:
		return e.parts[e.from:]
	}
	return e.parts
}

func (e *Edits) set(in int, f Field, has bool, key string, value []byte) {
	whole := Span{f.Key.Start - 1, f.Value.End}
	done := e.done(in)
	for i := range done {
		switch c := &done[i]; {
		case c.in != in || c.seq < 0:
		case has && c.remove && c.Span == whole:
			c.seq = -1
		case !has && !c.remove && c.key == key:
			c.With = value
			return
		}
	}
	if has {
		e.Replace(f.Value, value)
		return
	}
	e.seq++
	e.part(change{Edit: Edit{With: value}, in: in, key: key, seq: e.seq})
}

func (e *Edits) drop(in int, f Field, has bool, key string) {
	if has {
		e.seq++
		e.part(change{Edit: Edit{Span: Span{f.Key.Start - 1, f.Value.End}}, in: in, key: key, remove: true, seq: e.seq})
		return
	}
	done := e.done(in)
	for i := range done {
		if c := &done[i]; c.in == in && c.key == key && !c.remove {
			c.seq = -1
		}
	}
}

// List returns the edits. They are valid until the next Reset or List.
func (e *Edits) List() []Edit {
	free := len(e.free)
	e.from = 0 // parts are put in another order
	e.parts = slices.DeleteFunc(e.parts, func(c change) bool { return c.seq < 0 })
	for i := range e.parts {
		if !e.parts[i].remove {
			e.parts[i].Span = Span{math.MaxInt, math.MaxInt} // after the removals
		}
	}
	slices.SortStableFunc(e.parts, func(a, b change) int {
		return cmp.Or(cmp.Compare(a.in, b.in), cmp.Compare(a.Start, b.Start), cmp.Compare(a.seq, b.seq))
	})
	for i := 0; i < len(e.parts); {
		k := i + 1
		for k < len(e.parts) && e.parts[k].in == e.parts[i].in {
			k++
		}
		e.container(e.parts[i:k])
		i = k
	}
	// Of edits that start at the same byte insertions come first, then the one
	// that covers most; a covered one is dropped below.
	slices.SortStableFunc(e.free, func(a, b change) int {
		if a.Start != b.Start {
			return cmp.Compare(a.Start, b.Start)
		}
		if ai, bi := a.Start == a.End, b.Start == b.End; ai != bi {
			if ai {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.End, a.End), cmp.Compare(a.seq, b.seq))
	})
	e.list = e.list[:0]
	for i := range e.free {
		c := &e.free[i]
		if n := len(e.list); n > 0 {
			last := &e.list[n-1]
			if c.Span == last.Span && c.Start < c.End {
				last.With = c.With // the later of two
				continue
			}
			if c.Start < last.End {
				continue
			}
		}
		e.list = append(e.list, c.Edit)
	}
	slices.SortFunc(e.free, func(a, b change) int { return cmp.Compare(a.seq, b.seq) })
	e.free = e.free[:free] // List may be called again after further operations
	return e.list
}

// container turns the removals and additions in one container into edits.
func (e *Edits) container(ops []change) {
	in := ops[0].in
	if in >= len(e.body) || e.body[in] != '{' && e.body[in] != '[' {
		return
	}
	removals := len(ops)
	for removals > 0 && !ops[removals-1].remove {
		removals--
	}
	var (
		adds  = ops[removals:]
		array = e.body[in] == '['
		steps = e.walk(in)
		keep  = -1     // end of the last element that stays
		run   = -1     // start of the removed elements after keep
		end   = in + 1 // end of the last element
		next  = 0      // the removal that may come next
	)
	for steps.next() {
		start := steps.start
		end = steps.end
		for next < removals && ops[next].Start < start {
			next++
		}
		if next < removals && ops[next].Start == start {
			if run < 0 {
				run = start
			}
			continue
		}
		if run >= 0 { // up to what stays, with the comma before it
			e.emit(Span{run, start}, nil)
			run = -1
		}
		keep = end
	}
	at := Span{end, end}
	switch {
	case run >= 0 && keep >= 0:
		at.Start = keep // with the comma after what stays
	case run >= 0:
		at.Start = run
	}
	if len(adds) == 0 {
		if at.Start < at.End {
			e.emit(at, nil)
		}
		return
	}
	was := len(e.buf)
	for i := range adds {
		if keep >= 0 || i > 0 {
			e.buf = append(e.buf, ',')
		}
		if !array {
			e.buf = append(AppendString(e.buf, adds[i].key), ':')
		}
		e.buf = append(e.buf, adds[i].With...)
	}
	e.emit(at, e.buf[was:len(e.buf):len(e.buf)])
}

// emit adds an edit for the end of the list: what is appended to free here goes
// again when List returns.
func (e *Edits) emit(at Span, with []byte) {
	e.free = append(e.free, change{Edit: Edit{Span: at, With: with}, seq: math.MaxInt})
}

// walker steps through the elements of a container. Those of the body itself
// are known from its scan.
type walker struct {
	start, end int
	fields     []Field
	it         Iter
}

func (e *Edits) walk(in int) walker {
	at := Span{in, len(e.body)}
	switch {
	case e.body[in] == '[':
		return walker{it: Elements(e.body, at)}
	case e.env != nil && in == e.top():
		return walker{fields: e.env.Fields}
	}
	return walker{it: Members(e.body, at)}
}

func (w *walker) next() bool {
	if len(w.fields) > 0 {
		w.start, w.end = w.fields[0].Key.Start-1, w.fields[0].Value.End
		w.fields = w.fields[1:]
		return true
	}
	if !w.it.Next() {
		return false
	}
	w.start, w.end = w.it.Value.Start, w.it.Value.End
	if w.it.keys {
		w.start = w.it.Key.Start - 1
	}
	return true
}
