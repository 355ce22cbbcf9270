package store

import "fmt"

const (
	// One step of a sweep removes this many responses or bytes, whichever is
	// reached first, in a transaction of its own.
	stepMax      = 64
	stepBytesMax = 8 << 20
	// vacuumPages is how many free pages one step gives back to the disk: 1 MiB.
	vacuumPages = 256
)

// measure reads how large the file is.
func (w *writer) measure() error {
	var pages, free int64
	if err := w.row(`PRAGMA page_count`).Scan(&pages); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	if err := w.row(`PRAGMA freelist_count`).Scan(&free); err != nil {
		return fmt.Errorf("measure: %w", err)
	}
	w.used = (pages - free) * w.pageSize
	w.bytes.Store(pages * w.pageSize)
	return nil
}

// tooBig says whether the file has outgrown its bound.
func (w *writer) tooBig() bool {
	if err := w.measure(); err != nil {
		return false // the next sweep says so
	}
	return w.used > w.opt.MaxBytes
}

// sweep removes what is too old and, when the file is too big, what has been
// left alone the longest, and gives the room back to the disk.
func (w *writer) sweep() {
	err := w.sweepAge()
	if err == nil {
		err = w.sweepBytes()
	}
	if err == nil {
		err = w.shrink()
	}
	if err == nil {
		err = w.measure()
	}
	if err != nil {
		w.writeErrors.Add(1)
		w.opt.Log.Warn().Err(err).Str("path", w.opt.Path).Msg("sweep of stored responses failed")
	}
	w.lastSweep.Store(w.opt.Now().UnixMilli())
}

func (w *writer) sweepAge() error {
	if w.opt.MaxAge < 0 {
		return nil
	}
	before := w.opt.Now().Add(-w.opt.MaxAge).UnixMilli()
	for more := true; more && !w.isClosed(); w.serve() {
		err := w.transact(func() (err error) {
			more, err = w.expire(before)
			return err
		})
		if err != nil {
			return fmt.Errorf("remove what is too old: %w", err)
		}
	}
	return nil
}

// expire takes one step, and says whether there may be more to do.
func (w *writer) expire(before int64) (bool, error) {
	keys, err := w.keys(`SELECT key FROM responses WHERE deleted = 0 AND created < ? ORDER BY created LIMIT ?`, before, stepMax)
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		if err := w.bury(key); err != nil {
			return false, err
		}
		w.removed++
	}
	if len(keys) > 0 {
		return true, nil
	}
	keys, err = w.keys(`SELECT key FROM conversations WHERE touched < ? ORDER BY touched LIMIT 1`, before)
	if err != nil || len(keys) == 0 {
		return false, err
	}
	w.removed++
	return true, w.removeConversation(keys[0])
}

// sweepBytes leaves a tenth free, so that not every write brings a sweep. While
// the file is above its bound, writes wait: they must not outrun it.
func (w *writer) sweepBytes() error {
	if err := w.measure(); err != nil {
		return err
	}
	if w.used <= w.opt.MaxBytes {
		return nil
	}
	for more := true; more && w.used > w.opt.MaxBytes-w.opt.MaxBytes/10 && !w.isClosed(); {
		err := w.transact(func() (err error) {
			more, err = w.evict()
			return err
		})
		if err == nil {
			err = w.measure()
		}
		if err != nil {
			return fmt.Errorf("remove what is oldest: %w", err)
		}
		if w.used <= w.opt.MaxBytes {
			w.serve()
			if err := w.measure(); err != nil {
				return err
			}
		}
	}
	return nil
}

// evict takes one step at the trees and conversations that were left alone the
// longest, and says whether there may be more.
func (w *writer) evict() (bool, error) {
	enough := min(stepBytesMax, w.opt.MaxBytes/32)
	for n, freed := 0, int64(0); n < stepMax && freed < enough; {
		removed, bytes, err := w.evictOldest(stepMax-n, enough-freed)
		if err != nil || removed == 0 {
			return false, err
		}
		n, freed = n+removed, freed+bytes
	}
	return true, nil
}

// evictOldest removes the tree or conversation that was left alone the longest,
// or as much of it as is allowed. Within a tree the newest turns go first: what
// remains still has its whole history.
func (w *writer) evictOldest(most int, enough int64) (removed int, freed int64, err error) {
	var tree, conversation, grown, touched, size int64
	isTree, err := w.row(`SELECT key, touched FROM trees ORDER BY touched LIMIT 1`).found(&tree, &grown)
	if err != nil {
		return 0, 0, err
	}
	isConversation, err := w.row(`SELECT key, touched, bytes FROM conversations ORDER BY touched LIMIT 1`).found(&conversation, &touched, &size)
	switch {
	case err != nil || !isTree && !isConversation:
		return 0, 0, err
	case !isTree || isConversation && touched < grown:
		w.removed++
		return 1, size, w.removeConversation(conversation)
	}
	keys, err := w.keys(`SELECT key FROM responses WHERE tree = ? ORDER BY key DESC LIMIT ?`, tree, most)
	if err != nil {
		return 0, 0, err
	}
	for _, key := range keys {
		var deleted bool
		if err := w.row(`SELECT deleted, bytes FROM responses WHERE key = ?`, key).Scan(&deleted, &size); err != nil {
			return 0, 0, err
		}
		if err := w.removeResponse(key, tree, deleted); err != nil {
			return 0, 0, err
		}
		w.removed++
		removed, freed = removed+1, freed+size
		if freed >= enough {
			break
		}
	}
	return removed, freed, nil
}

// shrink gives free pages back to the disk.
func (w *writer) shrink() error {
	var free int64
	if err := w.row(`PRAGMA freelist_count`).Scan(&free); err != nil {
		return err
	}
	for ; free > 0 && !w.isClosed(); free -= vacuumPages {
		if err := w.vacuum(); err != nil {
			return fmt.Errorf("shrink the file: %w", err)
		}
		w.serve()
	}
	if w.gate != nil {
		return nil // no log
	}
	// The file itself shrinks when the log is brought home. This waits for the
	// reads under way, which are short.
	if err := w.exec(`PRAGMA wal_checkpoint(TRUNCATE)`); err != nil {
		return fmt.Errorf("shrink the log: %w", err)
	}
	return nil
}

func (w *writer) vacuum() error {
	if w.gate != nil {
		w.gate.Lock()
		defer w.gate.Unlock()
	}
	return w.exec(fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, vacuumPages))
}
