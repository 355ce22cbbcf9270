package ledger

import (
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// slotSeconds is the time that one sum is of. Every zone's hours and days begin
// at such a quarter.
const slotSeconds = 900

func slotOf(at time.Time) int64 {
	s := at.Unix()
	if s < 0 {
		return (s - slotSeconds + 1) / slotSeconds
	}
	return s / slotSeconds
}

// group is what sums are kept of.
type group struct{ client, requested, ref, provider, route, outcome string }

const (
	// groupsMax bounds the groups of a file, since clients name models as they
	// like; what comes beyond is summed as other.
	groupsMax = 4096
	other     = "(other)"
	// unknown stands for what was requested where it led to no target.
	unknown = "(unknown)"
)

// totals are what a group comes to in a slot.
type totals struct {
	exchanges, estimated, attempts               int64
	input, output, cached, cacheWrite, reasoning int64
	cost, saved                                  float64
	firsts                                       int64
	first, took, queued                          time.Duration
}

// join adds others.
func (t *totals) join(o *totals) {
	t.exchanges += o.exchanges
	t.estimated += o.estimated
	t.attempts += o.attempts
	t.input += o.input
	t.output += o.output
	t.cached += o.cached
	t.cacheWrite += o.cacheWrite
	t.reasoning += o.reasoning
	t.cost += o.cost
	t.saved += o.saved
	t.firsts += o.firsts
	t.first += o.first
	t.took += o.took
	t.queued += o.queued
}

func (t *totals) add(r *Row) {
	t.exchanges++
	if r.Estimated {
		t.estimated++
	}
	t.attempts += int64(r.Attempts)
	t.input += r.Input
	t.output += r.Output
	t.cached += r.Cached
	t.cacheWrite += r.CacheWrite
	t.reasoning += r.Reasoning
	t.cost += r.Cost
	t.saved += r.Saved
	if r.First > 0 {
		t.firsts++
		t.first += r.First
	}
	t.took += r.Took
	t.queued += r.Queued
}

func groupOf(r *Row) group {
	g := group{cut(r.Key), cut(r.Requested), cut(r.Ref), cut(r.Provider), cut(r.Route), cut(r.Outcome)}
	if g.ref == "" && g.outcome != "ok" {
		g.requested = unknown // any text a client thought of
	}
	return g
}

// batch is rows on their way into the file: the block that they will be, and what they
// come to. It is used again, so that a row allocates nothing.
type batch struct {
	encoder
	groups []group // of each kind of the block
	now    []int   // and its present part
	parts  []part
}

// part is what a kind comes to in a slot.
type part struct {
	kind int
	slot int64
	totals
}

func (b *batch) reset() {
	b.encoder.reset()
	clear(b.groups)
	b.groups, b.now, b.parts = b.groups[:0], b.now[:0], b.parts[:0]
}

// add takes a row in.
func (b *batch) add(r *Row) {
	n, slot := b.encoder.add(r), slotOf(r.At)
	if n == len(b.groups) {
		b.groups, b.now = append(b.groups, groupOf(r)), append(b.now, -1)
	}
	if i := b.now[n]; i < 0 || b.parts[i].slot != slot {
		if i >= 0 { // a slot has ended, or one comes late
			i = slices.IndexFunc(b.parts, func(p part) bool { return p.kind == n && p.slot == slot })
		}
		if i < 0 {
			i = len(b.parts)
			b.parts = append(b.parts, part{kind: n, slot: slot})
		}
		b.now[n] = i
	}
	b.parts[b.now[n]].totals.add(r)
}

// pen writes rows. It belongs to one goroutine.
type pen struct {
	inTx    bool // the statements belong to the one transaction that there is
	insert  *sql.Stmt
	add     *sql.Stmt
	groups  map[group]int64 // as they are in the file
	encoder encoder
	ids     []int64 // of a batch's groups
	sums    map[sumKey]*totals
	order   []sumKey // of sums, in which they came
}

type sumKey struct{ slot, group int64 }

const (
	insertBlock = `INSERT INTO blocks (first, last, rows, data) VALUES (?, ?, ?, ?)`
	addSums     = `INSERT INTO sums (slot, grp, exchanges, estimated, attempts, input, output, cached, cachewrite, reasoning, cost, saved, firsts, first, took, queued)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (slot, grp) DO UPDATE SET
	exchanges = exchanges + excluded.exchanges, estimated = estimated + excluded.estimated, attempts = attempts + excluded.attempts,
	input = input + excluded.input, output = output + excluded.output, cached = cached + excluded.cached, cachewrite = cachewrite + excluded.cachewrite,
	reasoning = reasoning + excluded.reasoning, cost = cost + excluded.cost, saved = saved + excluded.saved,
	firsts = firsts + excluded.firsts, first = first + excluded.first, took = took + excluded.took, queued = queued + excluded.queued`
)

// prepare prepares the statements. The pen must be closed.
func (p *pen) prepare(db interface {
	Prepare(string) (*sql.Stmt, error)
}) (err error) {
	if p.insert, err = db.Prepare(insertBlock); err != nil {
		return err
	}
	p.add, err = db.Prepare(addSums)
	return err
}

func (p *pen) close() {
	for _, st := range [...]*sql.Stmt{p.insert, p.add} {
		if st != nil {
			_ = st.Close()
		}
	}
	p.insert, p.add = nil, nil
}

// load reads the groups of a file.
func (p *pen) load(db *sql.DB) error {
	p.groups = map[group]int64{}
	rows, err := db.Query("SELECT id, client, requested, ref, provider, route, outcome FROM groups")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var g group
		if err := rows.Scan(&id, &g.client, &g.requested, &g.ref, &g.provider, &g.route, &g.outcome); err != nil {
			return err
		}
		p.groups[g] = id
	}
	return rows.Err()
}

// write writes batches as blocks and adds them to the sums. After an error the
// groups must be loaded again.
func (p *pen) write(tx *sql.Tx, batches ...*batch) error {
	if p.sums == nil {
		p.sums = map[sumKey]*totals{}
	}
	insert, add := p.insert, p.add
	if !p.inTx {
		insert, add = tx.Stmt(insert), tx.Stmt(add)
	}
	clear(p.sums)
	p.order = p.order[:0]
	for _, b := range batches {
		if err := p.block(tx, insert, b); err != nil {
			return err
		}
	}
	for _, k := range p.order {
		s := p.sums[k]
		if _, err := add.Exec(k.slot, k.group, s.exchanges, s.estimated, s.attempts, s.input, s.output, s.cached, s.cacheWrite, s.reasoning, s.cost, s.saved,
			s.firsts, s.first.Microseconds(), s.took.Microseconds(), s.queued.Microseconds()); err != nil {
			return fmt.Errorf("sums: %w", err)
		}
	}
	return nil
}

func (p *pen) block(tx *sql.Tx, insert *sql.Stmt, b *batch) error {
	p.ids = p.ids[:0]
	for _, g := range b.groups {
		id, err := p.groupID(tx, g)
		if err != nil {
			return fmt.Errorf("groups: %w", err)
		}
		p.ids = append(p.ids, id)
	}
	for i := range b.parts {
		t := &b.parts[i]
		p.sum(sumKey{t.slot, p.ids[t.kind]}).join(&t.totals)
	}
	if _, err := insert.Exec(b.first, b.until, b.count, b.bytes()); err != nil {
		return fmt.Errorf("block: %w", err)
	}
	return nil
}

func (p *pen) sum(k sumKey) *totals {
	s := p.sums[k]
	if s == nil {
		s = new(totals)
		p.sums[k] = s
		p.order = append(p.order, k)
	}
	return s
}

// groupID returns the number of a group, which is made when it is new.
func (p *pen) groupID(tx *sql.Tx, g group) (int64, error) {
	if id, ok := p.groups[g]; ok {
		return id, nil
	}
	if len(p.groups) >= groupsMax {
		g.requested = other
		if _, ok := p.groups[g]; !ok {
			g.ref = other // one that the client named, of a provider that takes any
		}
		if id, ok := p.groups[g]; ok {
			return id, nil
		}
	}
	if _, err := tx.Exec("INSERT OR IGNORE INTO groups (client, requested, ref, provider, route, outcome) VALUES (?, ?, ?, ?, ?, ?)",
		g.client, g.requested, g.ref, g.provider, g.route, g.outcome); err != nil {
		return 0, err
	}
	var id int64
	err := tx.QueryRow("SELECT id FROM groups WHERE client = ? AND requested = ? AND ref = ? AND provider = ? AND route = ? AND outcome = ?",
		g.client, g.requested, g.ref, g.provider, g.route, g.outcome).Scan(&id)
	if err == nil {
		p.groups[g] = id
	}
	return id, err
}
