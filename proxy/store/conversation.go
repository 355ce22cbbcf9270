package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Conversation is a list of items that outlives its responses.
type Conversation struct {
	ID       string
	Owner    string    // who may see it; may be empty
	Created  time.Time // the clock's when zero; kept to the millisecond
	Metadata []byte    // a JSON object
}

// CreateConversation stores a conversation with its first items.
func (s *Store) CreateConversation(ctx context.Context, c *Conversation, items []Item) error {
	if c.ID == "" {
		return errors.New("store conversation: it has no id")
	}
	if len(c.Metadata) > metadataMax {
		return fmt.Errorf("store conversation %s: %w: %d bytes of metadata", c.ID, ErrTooLarge, len(c.Metadata))
	}
	n, err := s.weigh(items)
	if err != nil {
		return fmt.Errorf("store conversation %s: %w", c.ID, err)
	}
	x := *c
	x.Metadata = append([]byte{}, c.Metadata...)
	items, _ = copiedItems(items, make([]byte, 0, n))
	if x.Created.IsZero() {
		x.Created = s.opt.Now()
	}
	return s.do(ctx, int64(n+len(x.Metadata)), func(w *writer) error {
		there, err := w.row(`SELECT 1 FROM conversations WHERE owner = ? AND id = ?`, x.Owner, x.ID).found(new(int))
		if err != nil {
			return err
		}
		if there {
			return ErrExists
		}
		if int64(n+len(items)) > w.opt.HistoryBytesMax {
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, n)
		}
		key, err := w.inserted(`INSERT INTO conversations (owner, id, created, touched, items, bytes, metadata)
			VALUES (?, ?, ?, ?, 0, 0, ?)`, x.Owner, x.ID, x.Created.UnixMilli(), w.opt.Now().UnixMilli(), x.Metadata)
		if err != nil {
			return err
		}
		w.moreConversations++
		return w.join(key, x.Owner, items)
	})
}

const conversationQuery = `SELECT created, metadata FROM conversations WHERE owner = ? AND id = ?`

// Conversation returns a conversation.
func (s *Store) Conversation(owner, id string) (*Conversation, error) {
	c := &Conversation{ID: id, Owner: owner}
	var created int64
	err := s.read(func() error { return s.queries[conversationQuery].QueryRow(owner, id).Scan(&created, &c.Metadata) })
	if err != nil {
		return nil, err
	}
	c.Created = time.UnixMilli(created)
	return c, nil
}

// UpdateConversation replaces the metadata.
func (s *Store) UpdateConversation(ctx context.Context, owner, id string, metadata []byte) error {
	if len(metadata) > metadataMax {
		return fmt.Errorf("store conversation %s: %w: %d bytes of metadata", id, ErrTooLarge, len(metadata))
	}
	metadata = append([]byte{}, metadata...)
	return s.do(ctx, int64(len(metadata)), func(w *writer) error {
		n, err := w.changed(`UPDATE conversations SET metadata = ?, touched = ? WHERE owner = ? AND id = ?`,
			metadata, w.opt.Now().UnixMilli(), owner, id)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
}

// DeleteConversation removes a conversation and its items. Responses that were
// made in it stay, with their own.
func (s *Store) DeleteConversation(ctx context.Context, owner, id string) error {
	return s.do(ctx, 0, func(w *writer) error {
		key, _, _, err := w.conversation(owner, id)
		if err != nil {
			return err
		}
		return w.removeConversation(key)
	})
}

func (w *writer) removeConversation(key int64) error {
	w.moreConversations--
	if err := w.exec(`DELETE FROM items WHERE holder = ? AND side = 2`, key); err != nil {
		return err
	}
	return w.exec(`DELETE FROM conversations WHERE key = ?`, key)
}

func (w *writer) conversation(owner, id string) (key, items, size int64, err error) {
	found, err := w.row(`SELECT key, items, bytes FROM conversations WHERE owner = ? AND id = ?`, owner, id).found(&key, &items, &size)
	if err == nil && !found {
		err = fmt.Errorf("conversation %s: %w", id, ErrNotFound)
	}
	return key, items, size, err
}

// room finds a conversation that has room for that much more.
func (w *writer) room(owner, id string, more int, moreBytes int64) (int64, error) {
	key, items, size, err := w.conversation(owner, id)
	switch {
	case err != nil:
		return 0, err
	case items+int64(more) > int64(w.opt.ItemsMax):
		return 0, fmt.Errorf("conversation %s: %w: more than %d items", id, ErrTooLarge, w.opt.ItemsMax)
	case size+moreBytes+items+int64(more) > w.opt.HistoryBytesMax:
		return 0, fmt.Errorf("conversation %s: %w: more than %d bytes", id, ErrTooLarge, w.opt.HistoryBytesMax)
	}
	return key, nil
}

const memberQuery = `SELECT key, length(json) FROM items WHERE holder = ? AND id = ? AND side = 2`

// join adds items at the end of a conversation. One whose id is there already
// replaces it in its place.
func (w *writer) join(key int64, owner string, items []Item) error {
	var last sql.NullInt64
	if err := w.row(`SELECT max(place) FROM items WHERE holder = ? AND side = 2`, key).Scan(&last); err != nil {
		return err
	}
	next := 0
	if last.Valid {
		next = int(last.Int64) + 1
	}
	more, moreBytes := 0, 0
	for _, it := range items {
		var old, oldBytes int64
		there := false
		if it.ID != "" {
			var err error
			there, err = w.row(memberQuery, key, it.ID).found(&old, &oldBytes)
			if err != nil {
				return err
			}
		}
		var err error
		if there {
			moreBytes += len(it.JSON) - int(oldBytes)
			err = w.exec(`UPDATE items SET json = ? WHERE key = ?`, it.JSON, old)
		} else {
			more++
			moreBytes += len(it.JSON)
			err = w.insertItem(key, memberSide, next, owner, it)
			next++
		}
		if err != nil {
			return err
		}
	}
	return w.exec(`UPDATE conversations SET items = items + ?, bytes = bytes + ?, touched = ? WHERE key = ?`,
		more, moreBytes, w.opt.Now().UnixMilli(), key)
}

// appendTurn adds a stored response's items to a conversation.
func (w *writer) appendTurn(conversation, response int64, owner string) error {
	st, err := w.stmt(`SELECT coalesce(id, ''), json FROM items WHERE holder = ? AND side < 2 ORDER BY side, place`)
	if err != nil {
		return err
	}
	rows, err := st.Query(response)
	if err != nil {
		return err
	}
	defer rows.Close()
	var items []Item
	for rows.Next() {
		var it Item
		if err := rows.Scan(&it.ID, &it.JSON); err != nil {
			return err
		}
		items = append(items, it)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	return w.join(conversation, owner, items)
}

// AddItems adds items at the end of a conversation. One whose id is there
// already replaces it in its place.
func (s *Store) AddItems(ctx context.Context, owner, conversation string, items []Item) error {
	n, err := s.weigh(items)
	if err != nil {
		return fmt.Errorf("conversation %s: %w", conversation, err)
	}
	items, _ = copiedItems(items, make([]byte, 0, n))
	return s.do(ctx, int64(n), func(w *writer) error {
		key, err := w.room(owner, conversation, len(items), int64(n))
		if err != nil {
			return err
		}
		return w.join(key, owner, items)
	})
}

// DeleteItem removes one item from a conversation.
func (s *Store) DeleteItem(ctx context.Context, owner, conversation, id string) error {
	return s.do(ctx, 0, func(w *writer) error {
		key, _, _, err := w.conversation(owner, conversation)
		if err != nil {
			return err
		}
		var item, size int64
		found, err := w.row(memberQuery, key, id).found(&item, &size)
		if err == nil && !found {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := w.exec(`DELETE FROM items WHERE key = ?`, item); err != nil {
			return err
		}
		return w.exec(`UPDATE conversations SET items = items - 1, bytes = bytes - ?, touched = ? WHERE key = ?`,
			size, w.opt.Now().UnixMilli(), key)
	})
}

const conversationItemQuery = `SELECT i.json FROM conversations c JOIN items i ON i.holder = c.key AND i.side = 2
	WHERE c.owner = ? AND c.id = ? AND i.id = ?`

// ConversationItem returns one item of a conversation.
func (s *Store) ConversationItem(owner, conversation, id string) (Item, error) {
	it := Item{ID: id}
	err := s.read(func() error {
		return s.queries[conversationItemQuery].QueryRow(owner, conversation, id).Scan(&it.JSON)
	})
	if err != nil {
		return Item{}, err
	}
	return it, nil
}

// ConversationItems lists the items of a conversation.
func (s *Store) ConversationItems(owner, conversation string, p Page) (List, error) {
	return s.list(members, owner, conversation, p)
}

const conversationHistoryQuery = `SELECT i.place, i.json FROM conversations c LEFT JOIN items i ON i.holder = c.key AND i.side = 2
	WHERE c.owner = ? AND c.id = ?`

// ConversationHistory returns all items of a conversation, oldest first, as one
// JSON array: what its next turn builds on.
func (s *Store) ConversationHistory(owner, conversation string) ([]byte, error) {
	var p pieces
	there := false
	err := s.read(func() error {
		rows, err := s.queries[conversationHistoryQuery].Query(owner, conversation)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			there = true
			var place sql.NullInt64
			var json sql.RawBytes
			if err := rows.Scan(&place, &json); err != nil {
				return err
			}
			if !place.Valid {
				continue // a conversation without items
			}
			if err := p.add(0, memberSide, int(place.Int64), json, s.opt.HistoryBytesMax); err != nil {
				return fmt.Errorf("conversation %s: %w", conversation, err)
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
