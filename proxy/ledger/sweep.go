package ledger

const (
	// sweepBlocks is how many blocks one step of a sweep removes or joins.
	sweepBlocks = 64
	// sizeBlocks is how many are removed before the size is looked at again.
	sizeBlocks = 8
	// smallRows is what a block has at least that is left as it is.
	smallRows = blockRows / 4
	// dayMillis bounds the time that joined blocks are of.
	dayMillis = 24 * 60 * 60 * 1000
)

// sweep removes what is too old and, when the file is too big, the oldest rows,
// and joins small blocks.
func (w *writer) sweep() {
	err := w.sweepAge()
	if err == nil {
		err = w.join()
	}
	if err == nil {
		err = w.sweepBytes()
	}
	if err != nil {
		w.opt.Log.Warn().Err(err).Str("path", where(w.opt)).Msg("sweep of the ledger failed")
	}
}

func (w *writer) sweepAge() error {
	if w.opt.MaxAge < 0 {
		return nil
	}
	before := w.opt.Now().Add(-w.opt.MaxAge)
	for {
		n, err := w.exec(`DELETE FROM blocks WHERE id IN (SELECT id FROM blocks WHERE last < ? LIMIT ?)`, before.UnixMilli(), sweepBlocks)
		if err != nil {
			return err
		}
		if n < sweepBlocks {
			break
		}
	}
	if err := w.trim(before.UnixMilli()); err != nil {
		return err
	}
	if _, err := w.exec(`DELETE FROM sums WHERE slot < ?`, slotOf(before)); err != nil {
		return err
	}
	return w.sweepGroups()
}

// trim takes the rows out of the blocks that are too old in part.
func (w *writer) trim(before int64) error {
	all, err := w.blocks(`SELECT id, rows, first, last, data FROM blocks WHERE last >= ? AND first < ? ORDER BY id LIMIT ?`, before, before, sweepBlocks)
	if err != nil {
		return err
	}
	for _, b := range all {
		rows, err := rowsOf(b.data)
		if err != nil {
			continue // it goes as a whole when its last row is old enough
		}
		w.pen.encoder.reset()
		for i := range rows {
			if rows[i].At.UnixMilli() >= before {
				w.pen.encoder.add(&rows[i])
			}
		}
		e := &w.pen.encoder
		if e.count == 0 {
			_, err = w.exec(`DELETE FROM blocks WHERE id = ?`, b.id)
		} else {
			_, err = w.exec(`UPDATE blocks SET first = ?, last = ?, rows = ?, data = ? WHERE id = ?`, e.first, e.until, e.count, e.bytes(), b.id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepGroups removes groups without sums, when there are many.
func (w *writer) sweepGroups() error {
	if len(w.pen.groups) < groupsMax/2 {
		return nil
	}
	if _, err := w.exec(`DELETE FROM groups WHERE id NOT IN (SELECT grp FROM sums)`); err != nil {
		return err
	}
	return w.pen.load(w.db)
}

type storedBlock struct {
	id, rows, first, last int64
	data                  []byte
}

func (w *writer) blocks(query string, args ...any) (all []storedBlock, err error) {
	rows, err := w.db.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var b storedBlock
		if err := rows.Scan(&b.id, &b.rows, &b.first, &b.last, &b.data); err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	return all, rows.Err()
}

// join makes one block of small ones that follow each other, of one day at the
// most: a quiet proxy writes one for nearly every exchange.
func (w *writer) join() error {
	for {
		// The data of those that are left as they are is not read.
		all, err := w.blocks(`SELECT id, rows, first, last, CASE WHEN rows < ? THEN data END FROM blocks WHERE id > ? ORDER BY id LIMIT ?`, smallRows, w.joined, sweepBlocks)
		if err != nil {
			return err
		}
		for len(all) > 0 && all[0].data == nil {
			w.joined, all = all[0].id, all[1:]
		}
		if len(all) < 2 {
			if len(all) == 1 || w.joined == 0 {
				return nil
			}
			if all, err = w.blocks(`SELECT id, rows, first, last, NULL FROM blocks WHERE id > ? LIMIT 1`, w.joined); err != nil || len(all) == 0 {
				return err
			}
			continue
		}
		if err := w.joinSome(all); err != nil {
			return err
		}
	}
}

// joinSome joins the first of some blocks with those that follow it.
func (w *writer) joinSome(all []storedBlock) error {
	e := &w.pen.encoder
	e.reset()
	n, total, first, last := 0, int64(0), all[0].first, all[0].last
	for ; n < len(all) && all[n].data != nil; n++ {
		b := &all[n]
		first, last = min(first, b.first), max(last, b.last)
		if total += b.rows; total > blockRows || last-first > dayMillis {
			break
		}
		rows, err := rowsOf(b.data)
		if err != nil {
			break
		}
		for i := range rows {
			e.add(&rows[i])
		}
	}
	if n < 2 {
		w.joined = all[0].id
		return nil
	}
	tx, err := w.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for i := range n {
		if _, err := tx.Exec(`DELETE FROM blocks WHERE id = ?`, all[i].id); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(`INSERT INTO blocks (id, first, last, rows, data) VALUES (?, ?, ?, ?, ?)`, all[0].id, e.first, e.until, e.count, e.bytes()); err != nil {
		return err
	}
	return tx.Commit()
}

// sweepBytes removes the oldest rows, and when there are none any more the oldest
// sums, until what is left fits.
func (w *writer) sweepBytes() error {
	for {
		used, err := w.size()
		if err != nil {
			return err
		}
		if used <= w.opt.MaxBytes {
			if _, err := w.db.Exec("PRAGMA incremental_vacuum"); err != nil {
				return err
			}
			_, err := w.size()
			return err
		}
		n, err := w.exec(`DELETE FROM blocks WHERE id IN (SELECT id FROM blocks ORDER BY last LIMIT ?)`, sizeBlocks)
		if err == nil && n == 0 {
			n, err = w.exec(`DELETE FROM sums WHERE slot IN (SELECT DISTINCT slot FROM sums ORDER BY slot LIMIT ?)`, sweepBlocks)
		}
		if err != nil || n == 0 {
			return err
		}
	}
}

func (w *writer) exec(query string, args ...any) (int64, error) {
	res, err := w.db.Exec(query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// size returns the bytes of the file that hold something, and notes its size.
func (w *writer) size() (used int64, err error) {
	var pages, free, page int64
	for q, to := range map[string]*int64{"page_count": &pages, "freelist_count": &free, "page_size": &page} {
		if err := w.db.QueryRow("PRAGMA " + q).Scan(to); err != nil {
			return 0, err
		}
	}
	w.l.bytes.Store(pages * page)
	return (pages - free) * page, nil
}
