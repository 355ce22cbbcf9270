package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Item is one item of a list, as JSON. An item without an ID is kept in its
// place, but cannot be looked up or continued after.
type Item struct {
	ID   string
	JSON []byte
}

// Response is a stored response: one turn.
type Response struct {
	ID           string
	Owner        string // who may see it; may be empty
	Previous     string // id of the turn before it
	Conversation string // id of the conversation it belongs to
	Model        string
	Status       string    // queued and in_progress are unfinished, all others final
	Created      time.Time // the clock's when zero; kept to the millisecond
	Background   bool
	Resource     []byte // the whole response resource, a JSON object

	// Input and Output are this turn's own items, never those of earlier turns:
	// History puts the chain together. Where a Put replaces an earlier state, nil
	// keeps the items that are stored. Get leaves both nil.
	Input, Output []Item

	// Append has Put and Update add Input and Output to Conversation in the same
	// commit, once for each response, however often it is put.
	Append bool
}

// The sides of a response's items, and the one of a conversation.
const (
	inputSide = iota
	outputSide
	memberSide
)

// Put stores r, or replaces the state that was put before, and returns when it
// is committed and everybody can read it. Previous and Created of the first
// state stay. A Previous that is not stored is kept as it is; History then says
// that it is gone. Put of a response that was deleted and is still needed by
// later ones is ErrNotFound; so is one with Append whose conversation is gone.
//
// Put keeps nothing of r but its strings. When ctx ends first, r may be stored
// or not; after any other error it is not.
func (s *Store) Put(ctx context.Context, r *Response) error { return s.put(ctx, r, false) }

// Update is Put for a later state of a response that was put before:
// ErrNotFound when it is no longer there, so that a deleted response does not
// come back, and ErrFinished when it has its final status, so that cancelling
// and completing cannot overwrite each other.
func (s *Store) Update(ctx context.Context, r *Response) error { return s.put(ctx, r, true) }

func (s *Store) put(ctx context.Context, r *Response, update bool) error {
	if r.ID == "" {
		return errors.New("store response: it has no id")
	}
	if len(r.Resource) == 0 {
		return fmt.Errorf("store response %s: it has no resource", r.ID)
	}
	n, err := s.weigh(r.Input, r.Output)
	if err != nil {
		return fmt.Errorf("store response %s: %w", r.ID, err)
	}
	if n += len(r.Resource); int64(n) > s.opt.ResponseBytesMax {
		return fmt.Errorf("store response %s: %w: %d bytes", r.ID, ErrTooLarge, n)
	}
	c := *r
	buf := make([]byte, 0, n) // one allocation for all that is copied
	c.Resource, buf = copied(r.Resource, buf)
	c.Input, buf = copiedItems(r.Input, buf)
	c.Output, _ = copiedItems(r.Output, buf)
	if c.Created.IsZero() {
		c.Created = s.opt.Now()
	}
	err = s.do(ctx, int64(n), func(w *writer) error { return w.put(&c, int64(n), update) })
	if err != nil {
		return fmt.Errorf("store response %s: %w", r.ID, err)
	}
	return nil
}

// weigh returns the bytes of lists that are stored together, all within bounds.
func (s *Store) weigh(lists ...[]Item) (int, error) {
	n, count := 0, 0
	for _, items := range lists {
		count += len(items)
		for _, it := range items {
			if len(it.JSON) == 0 {
				return 0, errors.New("an item has no JSON")
			}
			n += len(it.JSON)
		}
	}
	if count > s.opt.ItemsMax {
		return 0, fmt.Errorf("%w: %d items", ErrTooLarge, count)
	}
	if int64(n) > s.opt.ResponseBytesMax {
		return 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
	}
	return n, nil
}

func copied(b, buf []byte) (_, rest []byte) {
	n := len(buf)
	buf = append(buf, b...)
	return buf[n:len(buf):len(buf)], buf
}

// copiedItems keeps the difference between nil and none.
func copiedItems(items []Item, buf []byte) (_ []Item, rest []byte) {
	c := slices.Clone(items)
	for i := range c {
		c[i].JSON, buf = copied(c[i].JSON, buf)
	}
	return c, buf
}

func (w *writer) put(r *Response, size int64, update bool) error {
	var key, tree int64
	var deleted, appended bool
	var status string
	there, err := w.row(`SELECT key, tree, deleted, appended, status FROM responses WHERE owner = ? AND id = ?`, r.Owner, r.ID).
		found(&key, &tree, &deleted, &appended, &status)
	switch {
	case err != nil:
		return err
	case !there && update || deleted:
		return ErrNotFound
	case update && !unfinished(status):
		return ErrFinished
	}
	join := r.Append && !appended
	var member int64
	if join {
		count, bytes := len(r.Input)+len(r.Output), size-int64(len(r.Resource))
		if there {
			var kept, keptBytes int64
			err := w.row(`SELECT count(*), coalesce(sum(length(json)), 0) FROM items WHERE holder = ? AND (side = 0 AND ? OR side = 1 AND ?)`,
				key, r.Input == nil, r.Output == nil).Scan(&kept, &keptBytes)
			if err != nil {
				return err
			}
			count, bytes = count+int(kept), bytes+keptBytes
		}
		if member, err = w.room(r.Owner, r.Conversation, count, bytes); err != nil {
			return err
		}
	}
	appended = appended || join

	if there {
		err = w.exec(`UPDATE responses SET conversation = ?, model = ?, status = ?, background = ?, appended = ?, resource = ? WHERE key = ?`,
			r.Conversation, r.Model, r.Status, r.Background, appended, r.Resource, key)
	} else {
		key, err = w.insert(r, appended)
	}
	if err != nil {
		return err
	}
	if err := w.replaceItems(key, inputSide, r.Owner, r.Input, there); err != nil {
		return err
	}
	if err := w.replaceItems(key, outputSide, r.Owner, r.Output, there); err != nil {
		return err
	}
	if err := w.exec(`UPDATE responses SET bytes = length(resource) +
		(SELECT coalesce(sum(length(json)), 0) FROM items WHERE holder = responses.key AND side < 2) WHERE key = ?`, key); err != nil {
		return err
	}
	if join {
		return w.appendTurn(member, key, r.Owner)
	}
	return nil
}

func unfinished(status string) bool { return status == "queued" || status == "in_progress" }

// insert adds a response to the tree of its previous one, or begins a tree. A
// tree is what hangs together by previous: it is evicted as a whole, because a
// turn without its history is worth nothing.
func (w *writer) insert(r *Response, appended bool) (int64, error) {
	var tree int64
	var parent sql.NullInt64
	if r.Previous != "" {
		// One that was deleted while this turn was under way still counts.
		var err error
		parent.Valid, err = w.row(`SELECT key, tree FROM responses WHERE owner = ? AND id = ?`, r.Owner, r.Previous).
			found(&parent.Int64, &tree)
		if err != nil {
			return 0, err
		}
	}
	now := w.opt.Now().UnixMilli()
	var err error
	if parent.Valid {
		err = w.exec(`UPDATE trees SET touched = ? WHERE key = ?`, now, tree)
	} else {
		tree, err = w.inserted(`INSERT INTO trees (touched) VALUES (?)`, now)
	}
	if err != nil {
		return 0, err
	}
	w.moreResponses++
	return w.inserted(`INSERT INTO responses
		(tree, parent, owner, id, previous, conversation, model, status, created, background, appended, deleted, bytes, resource)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?)`,
		tree, parent, r.Owner, r.ID, r.Previous, r.Conversation, r.Model, r.Status, r.Created.UnixMilli(), r.Background, appended, r.Resource)
}

func (w *writer) replaceItems(holder int64, side int, owner string, items []Item, there bool) error {
	if items == nil {
		return nil
	}
	if there {
		if err := w.exec(`DELETE FROM items WHERE holder = ? AND side = ?`, holder, side); err != nil {
			return err
		}
	}
	for i, it := range items {
		if err := w.insertItem(holder, side, i, owner, it); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) insertItem(holder int64, side, place int, owner string, it Item) error {
	if it.ID == "" {
		owner = "" // nobody looks it up
	}
	return w.exec(`INSERT INTO items (holder, side, place, owner, id, json) VALUES (?, ?, ?, ?, nullif(?, ''), ?)`,
		holder, side, place, owner, it.ID, it.JSON)
}

const getQuery = `SELECT previous, conversation, model, status, created, background, resource
	FROM responses WHERE owner = ? AND id = ? AND deleted = 0`

// Get returns a response without its items.
func (s *Store) Get(owner, id string) (*Response, error) {
	r := &Response{ID: id, Owner: owner}
	var created int64
	err := s.read(func() error {
		return s.queries[getQuery].QueryRow(owner, id).
			Scan(&r.Previous, &r.Conversation, &r.Model, &r.Status, &created, &r.Background, &r.Resource)
	})
	if err != nil {
		return nil, err
	}
	r.Created = time.UnixMilli(created)
	return r, nil
}

// Delete removes a response: Get, Item and History of it say ErrNotFound from
// then on. When later turns build on it, its items stay, unreachable by
// themselves, until the last of those is gone.
func (s *Store) Delete(ctx context.Context, owner, id string) error {
	return s.do(ctx, 0, func(w *writer) error {
		var key int64
		found, err := w.row(`SELECT key FROM responses WHERE owner = ? AND id = ? AND deleted = 0`, owner, id).found(&key)
		if err == nil && !found {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		return w.bury(key)
	})
}

// bury removes a response that can be read, or leaves a tombstone where others
// build on it. Tombstones that nobody needs any longer go with it.
func (w *writer) bury(key int64) error {
	for {
		var tree int64
		var parent sql.NullInt64
		var deleted, needed bool
		err := w.row(`SELECT tree, parent, deleted, EXISTS (SELECT 1 FROM responses c WHERE c.parent = r.key)
			FROM responses r WHERE key = ?`, key).Scan(&tree, &parent, &deleted, &needed)
		if err != nil {
			return err
		}
		if needed {
			return w.entomb(key)
		}
		if err := w.removeResponse(key, tree, deleted); err != nil || !parent.Valid {
			return err
		}
		key = parent.Int64
		more, err := w.row(`SELECT 1 FROM responses r WHERE key = ? AND deleted = 1
			AND NOT EXISTS (SELECT 1 FROM responses c WHERE c.parent = r.key)`, key).found(new(int))
		if err != nil || !more {
			return err
		}
	}
}

// entomb keeps of a response what later turns need: its items, without ids.
func (w *writer) entomb(key int64) error {
	w.moreResponses--
	if err := w.exec(`UPDATE responses SET deleted = 1, bytes = bytes - length(resource), resource = x'' WHERE key = ?`, key); err != nil {
		return err
	}
	return w.exec(`UPDATE items SET id = NULL, owner = '' WHERE holder = ? AND side < 2 AND id IS NOT NULL`, key)
}

// removeResponse removes all of a response on which no other builds.
func (w *writer) removeResponse(key, tree int64, deleted bool) error {
	if !deleted {
		w.moreResponses--
	}
	if err := w.exec(`DELETE FROM items WHERE holder = ? AND side < 2`, key); err != nil {
		return err
	}
	if err := w.exec(`DELETE FROM responses WHERE key = ?`, key); err != nil {
		return err
	}
	return w.exec(`DELETE FROM trees WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM responses WHERE tree = ?1)`, tree)
}

// One statement sees one state of the file. Rows come in whatever order is
// cheap; sorting them in SQL would copy every item through the sorter.
const historyQuery = `WITH RECURSIVE chain (key, parent, depth, gone) AS (
		SELECT key, parent, 0, parent IS NULL AND previous <> '' FROM responses WHERE owner = ? AND id = ? AND deleted = 0
		UNION ALL
		SELECT r.key, r.parent, depth + 1, r.parent IS NULL AND r.previous <> ''
		FROM chain JOIN responses r ON r.key = chain.parent WHERE depth < ?)
	SELECT c.depth, c.parent IS NOT NULL, c.gone, i.side, i.place, i.json
	FROM chain c LEFT JOIN items i ON i.holder = c.key AND i.side < 2`

// History returns what the turn after this one builds on: the input and output
// items of the whole chain, oldest first, as one JSON array. ErrNotFound also
// says that an earlier turn is gone: half a history is none. ErrTooLarge says
// that there are more turns or bytes than Options allow.
func (s *Store) History(owner, id string) ([]byte, error) {
	var p pieces
	there := false
	err := s.read(func() error {
		rows, err := s.queries[historyQuery].Query(owner, id, s.opt.ChainMax)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			there = true
			var depth int
			var more, gone bool
			var side, place sql.NullInt64
			var json sql.RawBytes
			if err := rows.Scan(&depth, &more, &gone, &side, &place, &json); err != nil {
				return err
			}
			if gone {
				return fmt.Errorf("response %s: an earlier turn is %w", id, ErrNotFound)
			}
			if more && depth+1 >= s.opt.ChainMax {
				return fmt.Errorf("response %s: %w: its history has more than %d turns", id, ErrTooLarge, s.opt.ChainMax)
			}
			if !side.Valid {
				continue // a turn without items
			}
			if err := p.add(-depth, int(side.Int64), int(place.Int64), json, s.opt.HistoryBytesMax); err != nil {
				return fmt.Errorf("response %s: %w", id, err)
			}
		}
		return rows.Err()
	})
	if err == nil && !there {
		err = ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return p.array(), nil
}

// pieces gathers items in any order and puts them together in theirs.
type pieces struct {
	buf  []byte
	list []piece
}

type piece struct{ turn, side, place, from, to int }

func (p *pieces) add(turn, side, place int, json []byte, limit int64) error {
	from := len(p.buf)
	p.buf = append(p.buf, json...)
	p.list = append(p.list, piece{turn, side, place, from, len(p.buf)})
	if n := int64(len(p.buf) + len(p.list)); n > limit {
		return fmt.Errorf("%w: its history has more than %d bytes", ErrTooLarge, limit)
	}
	return nil
}

func (p *pieces) array() []byte {
	slices.SortFunc(p.list, func(a, b piece) int {
		switch {
		case a.turn != b.turn:
			return a.turn - b.turn
		case a.side != b.side:
			return a.side - b.side
		}
		return a.place - b.place
	})
	out := make([]byte, 0, len(p.buf)+len(p.list)+2)
	out = append(out, '[')
	for i, x := range p.list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, p.buf[x.from:x.to]...)
	}
	return append(out, ']')
}

const itemQuery = `SELECT json FROM items WHERE owner = ? AND id = ? ORDER BY key DESC LIMIT 1`

// Item returns the item of that id in any response or conversation of the
// owner; where several have one, the one stored last.
func (s *Store) Item(owner, id string) (Item, error) {
	it := Item{ID: id}
	if id == "" {
		return it, ErrNotFound
	}
	err := s.read(func() error { return s.queries[itemQuery].QueryRow(owner, id).Scan(&it.JSON) })
	if err != nil {
		return Item{}, err
	}
	return it, nil
}

// InputItems lists the items that a response was given in its own turn.
func (s *Store) InputItems(owner, id string, p Page) (List, error) {
	return s.list(inputs, owner, id, p)
}

// endUnfinished tells pollers the truth about responses whose process died. A
// resource that is no JSON object could not tell it, and is replaced.
const endUnfinished = `UPDATE responses SET status = 'failed', resource = told, bytes = bytes - length(resource) + length(told)
	FROM (SELECT key AS ended, CAST(json_set(
		CASE WHEN json_valid(CAST(resource AS TEXT)) AND json_type(CAST(resource AS TEXT)) = 'object' THEN CAST(resource AS TEXT)
			ELSE json_object('id', id, 'object', 'response', 'created_at', created / 1000, 'model', model, 'output', json('[]')) END,
		'$.status', 'failed',
		'$.error', json('{"code":"server_error","message":"The proxy was restarted while it worked on this response.","type":"server_error","param":null}')
	) AS BLOB) AS told FROM responses WHERE status IN ('queued', 'in_progress') AND deleted = 0) WHERE key = ended`
