package store

import (
	"database/sql"
	"errors"
)

// Page says which part of a list to return. The zero Page is OpenAI's default.
type Page struct {
	After     string // id of the item before the first; empty for the start
	Limit     int    // 20 when zero or less, at most 100
	Ascending bool   // oldest first; newest first otherwise
}

// List is a part of a list.
type List struct {
	Items []Item
	More  bool // there are items after these
}

// listing is how the items of a kind of holder are found. The holder's owner is
// asked for in each statement: between two of them a key may have been given to
// another's.
type listing struct{ cursor, up, down string }

// Where an id occurs twice in one list, the later place in the order counts:
// paging must come to an end.
func newListing(holders, side, alive string) listing {
	from := ` FROM ` + holders + ` h JOIN items i ON i.holder = h.key AND i.side = ` + side + ` WHERE h.owner = ? AND h.id = ?` + alive
	return listing{
		cursor: `SELECT (SELECT min(place) FROM items WHERE holder = h.key AND side = ` + side + ` AND id = ?1),
			(SELECT max(place) FROM items WHERE holder = h.key AND side = ` + side + ` AND id = ?1)
			FROM ` + holders + ` h WHERE h.owner = ?2 AND h.id = ?3` + alive,
		up:   `SELECT coalesce(i.id, ''), i.json` + from + ` AND i.place > ? ORDER BY i.place LIMIT ?`,
		down: `SELECT coalesce(i.id, ''), i.json` + from + ` AND i.place < ? ORDER BY i.place DESC LIMIT ?`,
	}
}

var (
	inputs  = newListing("responses", "0", " AND h.deleted = 0")
	members = newListing("conversations", "2", "")
)

func (s *Store) list(l listing, owner, id string, p Page) (List, error) {
	if p.Limit <= 0 {
		p.Limit = 20
	}
	p.Limit = min(p.Limit, 100)
	query, from := l.down, int64(1)<<62
	if p.Ascending {
		query, from = l.up, -1
	}
	var out List
	err := s.read(func() error {
		var first, last sql.NullInt64
		if err := s.queries[l.cursor].QueryRow(p.After, owner, id).Scan(&first, &last); err != nil {
			return err
		}
		switch {
		case p.After == "":
		case !first.Valid:
			return ErrAfter
		case p.Ascending:
			from = last.Int64
		default:
			from = first.Int64
		}
		rows, err := s.queries[query].Query(owner, id, from, p.Limit+1)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if len(out.Items) == p.Limit {
				out.More = true
				break
			}
			var it Item
			if err := rows.Scan(&it.ID, &it.JSON); err != nil {
				return err
			}
			out.Items = append(out.Items, it)
		}
		return errors.Join(rows.Err(), rows.Close())
	})
	if err != nil {
		return List{}, err
	}
	return out, nil
}
