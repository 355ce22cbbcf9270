package ledger

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"time"
)

// A block holds the rows of one batch, in the order in which they were added:
//
//	version, count of kinds, kinds, count of rows, rows, CRC-32C of all that
//
// A kind is what many rows have in common, all their texts; a row names its kind
// and says its numbers as varints, times as the difference from the row before.
const blockVersion = 1

// Bounds of what a reader takes and a writer makes.
const (
	blockRows = 2048
	textBytes = 512 // of one text of a row; the rest is cut off
)

// errBlock says that a block cannot be read.
var errBlock = errors.New("damaged block")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// kind is what rows have in common.
type kind struct {
	key, requested, ref, provider, route, dialect, outcome, code, trail string
	status                                                              int
	stream                                                              bool
}

func (k *kind) of(r *Row) bool {
	return k.ref == r.Ref && k.key == r.Key && k.outcome == r.Outcome && k.requested == r.Requested && k.status == r.Status && k.stream == r.Stream &&
		k.dialect == r.Dialect && k.provider == r.Provider && k.route == r.Route && k.code == r.Code && k.trail == r.Trail
}

// What a row's first byte says.
const (
	hasRawID = 1 << iota // of the form that request ids have
	hasTokens
	isReported
	isEstimated
	hasCost
	hasSaved
	hasQueued
	hasGaps
)

// encoder makes blocks. It is used again, so that a batch allocates little.
type encoder struct {
	kinds []kind
	index map[kind]int
	last  int   // the kind of the row before
	at    int64 // and its time
	rows  []byte
	count int
	first int64 // Unix milliseconds of the earliest
	until int64 // and of the latest
	block []byte
}

func (e *encoder) reset() {
	clear(e.kinds)
	e.kinds, e.rows, e.last, e.at, e.count = e.kinds[:0], e.rows[:0], 0, 0, 0
	if e.index == nil {
		e.index = map[kind]int{}
	}
	clear(e.index)
}

// kindOf returns the number of a row's kind.
func (e *encoder) kindOf(r *Row) int {
	if e.last < len(e.kinds) && e.kinds[e.last].of(r) {
		return e.last
	}
	for i := range min(len(e.kinds), 8) { // comparing a few is less than one hash of all texts
		if e.kinds[i].of(r) {
			return i
		}
	}
	k := kind{r.Key, r.Requested, r.Ref, r.Provider, r.Route, r.Dialect, r.Outcome, r.Code, r.Trail, r.Status, r.Stream}
	i, ok := e.index[k]
	if !ok {
		i = len(e.kinds)
		e.kinds = append(e.kinds, k)
		e.index[k] = i
	}
	return i
}

// add encodes a row and returns the number of its kind.
func (e *encoder) add(r *Row) int {
	e.last = e.kindOf(r)
	at := r.At.UnixMilli()
	if e.count == 0 {
		e.first, e.until = at, at
	}
	e.first, e.until = min(e.first, at), max(e.until, at)
	var id [12]byte
	var flags byte
	if rawID(&id, r.ID) {
		flags |= hasRawID
	}
	if r.Input|r.Output|r.Cached|r.CacheWrite|r.Reasoning != 0 {
		flags |= hasTokens
	}
	if r.Reported {
		flags |= isReported
	}
	if r.Estimated {
		flags |= isEstimated
	}
	if r.Cost != 0 {
		flags |= hasCost
	}
	if r.Saved != 0 {
		flags |= hasSaved
	}
	if r.Queued > 0 {
		flags |= hasQueued
	}
	if r.GapP50|r.GapP95 != 0 {
		flags |= hasGaps
	}
	b := append(e.rows, flags)
	b = binary.AppendUvarint(b, uint64(e.last))
	b = binary.AppendVarint(b, at-e.at)
	if flags&hasRawID != 0 {
		b = append(b, id[:]...)
	} else {
		b = appendText(b, r.ID)
	}
	if flags&hasTokens != 0 {
		for _, n := range [...]int64{r.Input, r.Output, r.Cached, r.CacheWrite, r.Reasoning} {
			b = binary.AppendUvarint(b, uint64(max(n, 0)))
		}
	}
	if flags&hasCost != 0 {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.Cost))
	}
	if flags&hasSaved != 0 {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(r.Saved))
	}
	if flags&hasQueued != 0 {
		b = appendSpan(b, r.Queued)
	}
	if flags&hasGaps != 0 {
		b = appendSpan(appendSpan(b, r.GapP50), r.GapP95)
	}
	b = appendSpan(appendSpan(b, r.First), r.Took)
	e.rows = binary.AppendUvarint(b, uint64(max(r.Attempts, 0)))
	e.at = at
	e.count++
	return e.last
}

// bytes returns the block, which is good until the next reset.
func (e *encoder) bytes() []byte {
	b := append(e.block[:0], blockVersion)
	b = binary.AppendUvarint(b, uint64(len(e.kinds)))
	for i := range e.kinds {
		k := &e.kinds[i]
		for _, s := range [...]string{k.key, k.requested, k.ref, k.provider, k.route, k.dialect, k.outcome, k.code, k.trail} {
			b = appendText(b, s)
		}
		n := uint64(max(k.status, 0)) << 1
		if k.stream {
			n |= 1
		}
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendUvarint(b, uint64(e.count))
	b = append(b, e.rows...)
	e.block = seal(b)
	return e.block
}

// seal ends a block with its sum.
func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendText(dst []byte, s string) []byte {
	s = cut(s)
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func cut(s string) string {
	if len(s) > textBytes {
		return s[:textBytes]
	}
	return s
}

func appendSpan(dst []byte, d time.Duration) []byte {
	return binary.AppendUvarint(dst, uint64(max(d, 0).Microseconds()))
}

const idPrefix = "req_"

// rawID takes the bytes out of an id of the form that the proxy gives requests.
func rawID(to *[12]byte, id string) bool {
	if len(id) != len(idPrefix)+2*len(to) || id[:len(idPrefix)] != idPrefix {
		return false
	}
	for i := range to {
		a, b := nibble(id[len(idPrefix)+2*i]), nibble(id[len(idPrefix)+2*i+1])
		if a|b > 15 {
			return false
		}
		to[i] = a<<4 | b
	}
	return true
}

// nibble returns the value of a lower case hex digit; 255 for anything else.
func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}

// decoder reads one block.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[size:]
	return n
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) text() string        { return string(d.take(d.uvarint())) }
func (d *decoder) whole() int64        { return int64(d.uvarint() & math.MaxInt64) }
func (d *decoder) span() time.Duration { return time.Duration(d.uvarint()) * time.Microsecond }
func (d *decoder) float() (f float64)  { return math.Float64frombits(d.fixed()) }
func (d *decoder) count(least int) int { return int(min(d.uvarint(), uint64(len(d.b)/least+1))) }
func (d *decoder) id(flags byte) string {
	if flags&hasRawID == 0 {
		return d.text()
	}
	return idPrefix + hex.EncodeToString(d.take(12))
}

func (d *decoder) fixed() uint64 {
	if b := d.take(8); len(b) == 8 {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// rowsOf returns the rows of a block.
func rowsOf(block []byte) ([]Row, error) {
	n := len(block) - crc32.Size
	if n < 1 || block[0] != blockVersion || crc32.Checksum(block[:n], castagnoli) != binary.LittleEndian.Uint32(block[n:]) {
		return nil, errBlock
	}
	d := decoder{b: block[1:n]}
	// Counts are bounded by what the rest could hold at least of each.
	kinds := make([]kind, d.count(10))
	for i := range kinds {
		k := &kinds[i]
		for _, s := range [...]*string{&k.key, &k.requested, &k.ref, &k.provider, &k.route, &k.dialect, &k.outcome, &k.code, &k.trail} {
			*s = d.text()
		}
		n := d.uvarint()
		k.status, k.stream = int(n>>1), n&1 != 0
	}
	rows := make([]Row, d.count(6))
	var at int64
	for i := range rows {
		if !d.row(&rows[i], kinds, &at) {
			return nil, errBlock
		}
	}
	if d.bad || len(d.b) != 0 {
		return nil, errBlock
	}
	return rows, nil
}

func (d *decoder) row(r *Row, kinds []kind, at *int64) bool {
	first := d.take(1)
	n := d.uvarint()
	if len(first) == 0 || n >= uint64(len(kinds)) {
		return false
	}
	flags, k := first[0], &kinds[n]
	*at += d.varint()
	*r = Row{ID: d.id(flags), At: time.UnixMilli(*at), Key: k.key, Requested: k.requested, Ref: k.ref, Provider: k.provider, Route: k.route, Dialect: k.dialect,
		Stream: k.stream, Status: k.status, Outcome: k.outcome, Code: k.code, Trail: k.trail, Reported: flags&isReported != 0, Estimated: flags&isEstimated != 0}
	if flags&hasTokens != 0 {
		for _, n := range [...]*int64{&r.Input, &r.Output, &r.Cached, &r.CacheWrite, &r.Reasoning} {
			*n = d.whole()
		}
	}
	if flags&hasCost != 0 {
		r.Cost = d.float()
	}
	if flags&hasSaved != 0 {
		r.Saved = d.float()
	}
	if flags&hasQueued != 0 {
		r.Queued = d.span()
	}
	if flags&hasGaps != 0 {
		r.GapP50, r.GapP95 = d.span(), d.span()
	}
	r.First, r.Took = d.span(), d.span()
	r.Attempts = int(d.uvarint())
	return !d.bad
}
