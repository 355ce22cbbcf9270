package proxy

// actives are the exchanges under way: a list through them, so that one that comes or
// goes costs neither a search nor memory. Server.mu guards it.
type actives struct {
	first *exchange
	n     int
}

// neighbours are those before and behind an exchange among the actives.
type neighbours struct {
	before, behind *exchange
	in             bool
}

func (a *actives) add(x *exchange) {
	if x.among.in {
		return
	}
	x.among = neighbours{behind: a.first, in: true}
	if a.first != nil {
		a.first.among.before = x
	}
	a.first = x
	a.n++
}

func (a *actives) remove(x *exchange) {
	if !x.among.in {
		return
	}
	if b := x.among.before; b != nil {
		b.among.behind = x.among.behind
	} else {
		a.first = x.among.behind
	}
	if b := x.among.behind; b != nil {
		b.among.before = x.among.before
	}
	x.among = neighbours{}
	a.n--
}

// each calls f with all, the youngest first.
func (a *actives) each(f func(*exchange)) {
	for x := a.first; x != nil; x = x.among.behind {
		f(x)
	}
}
