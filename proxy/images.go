package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"nearside/shaping"
	"nearside/shaping/wire"
	"nearside/upstream"
)

// fetchParallel bounds how many images of a request are fetched at once.
const fetchParallel = 4

// fetching is the fetching of a request's remote images, once for all targets
// that want them. Its goroutine writes the results and closes done.
type fetching struct {
	done   chan struct{}
	images []shaping.Image
	bytes  int64 // that they count in Server.inFlight, once the exchange has seen them
	seen   bool
	err    *wire.Error
}

// fetched are the images that were fetched for the request.
func (x *exchange) fetched() []shaping.Image {
	if x.fetch == nil {
		return nil
	}
	return x.fetch.images
}

// fetchImages fetches the request's remote images for a target that takes none.
// While it waits it is what an attempt is: the client may leave, heartbeats go
// out, and upstream.ErrHold leaves it where the next call goes on. A *wire.Error
// says that an image could not be had.
func (x *exchange) fetchImages(t *target) error {
	if x.media.Remote == 0 || !x.snap.Config.Inputs.FetchImages || !x.shapeOf(t).DataImages() ||
		t.omits(x.surface.dialect) {
		return nil
	}
	if x.fetch == nil {
		if err := x.startFetch(); err != nil {
			return err
		}
	}
	f := x.fetch
	if _, err := x.pause(time.Time{}, f.done); err != nil {
		return err
	}
	if !f.seen {
		f.seen = true
		for _, m := range f.images {
			f.bytes += int64(m.Size())
		}
		x.weight += f.bytes
		if x.s.inFlight.Add(f.bytes) > x.snap.Config.Limits.InFlightBytes {
			f.images, f.err = nil, overloaded()
		}
	}
	if f.err != nil {
		return f.err
	}
	return nil
}

// startFetch begins to fetch. stopFetch ends it.
func (x *exchange) startFetch() error {
	cfg := &x.snap.Config.Inputs
	addresses := shaping.RemoteImages(x.request())
	if len(addresses) > cfg.FetchCount {
		return &wire.Error{Status: 400, Type: "invalid_request_error", Code: "too_many_images", Param: x.promptParam(),
			Message: fmt.Sprintf("the request points to %d images, of which at most %d are fetched (proxy.inputs.fetchCount): send them as data: URLs", len(addresses), cfg.FetchCount)}
	}
	until := time.Now().Add(cfg.Fetch)
	if !x.deadline.IsZero() && x.deadline.Before(until) {
		until = x.deadline
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	f := &fetching{done: make(chan struct{})}
	x.mu.Lock()
	x.fetch, x.fetching = f, cancel
	if x.gone.Load() || x.ending.Load() {
		cancel()
	}
	x.mu.Unlock()
	x.shaped.Dropped = x.shaped.Dropped[:0] // nothing was shaped or read of this request yet,
	x.dec.Reset(x.surface.dialect)          // should it end here
	opt := upstream.ImageOptions{Dialer: x.s.dialer, Private: cfg.FetchPrivate, NearOnly: x.plan.policy.NearOnly, Bytes: cfg.FetchBytes, Agent: "nearside/" + x.s.version}
	param := x.promptParam()
	go func() {
		defer close(f.done)
		defer cancel()
		defer x.s.survive("fetch of images")
		f.get(ctx, addresses, opt, param)
	}()
	return nil
}

// get fetches all of them; the first that cannot be had ends the others.
func (f *fetching) get(ctx context.Context, addresses []string, opt upstream.ImageOptions, param string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	images := make([]shaping.Image, len(addresses))
	slots := make(chan struct{}, fetchParallel)
	var mu sync.Mutex // guards left and f.err
	left := opt.Bytes
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			mu.Lock()
			one := opt
			one.Bytes = left
			mu.Unlock()
			mediaType, data, err := upstream.FetchImage(ctx, address, one)
			mu.Lock()
			defer mu.Unlock()
			if left -= len(data); err == nil && left < 0 {
				err = fmt.Errorf("it is %w: all of them have more than %d bytes", upstream.ErrImageTooLarge, opt.Bytes)
			}
			if err == nil {
				images[i] = shaping.NewImage(address, mediaType, data)
			} else if f.err == nil {
				f.err = imageError(address, err, param)
				cancel()
			}
		})
	}
	wg.Wait()
	if f.err == nil {
		f.images = images
	}
}

// imageError says in a reply why an image could not be had.
func imageError(address string, err error, param string) *wire.Error {
	hint := "; send it as a data: URL"
	switch {
	case errors.Is(err, upstream.ErrImageTooLarge):
		hint = " (proxy.inputs.fetchBytes)"
	case errors.Is(err, context.DeadlineExceeded):
		hint = " (proxy.inputs.fetchSeconds)"
	}
	return &wire.Error{Status: 400, Type: "invalid_request_error", Code: "image_not_fetched", Param: param,
		Message: "the image at " + printable([]byte(address)) + " cannot be sent to this backend, which takes data: URLs only: " + err.Error() + hint}
}

// promptParam is the member of the request that holds the prompt.
func (x *exchange) promptParam() string {
	if x.surface.dialect == wire.Responses {
		return "input"
	}
	return "messages"
}

// cancelFetch ends the fetching of images early. The caller holds x.mu.
func (x *exchange) cancelFetch() {
	if x.fetching != nil {
		x.fetching()
	}
}

// stopFetch ends the fetching of images and waits for it.
func (x *exchange) stopFetch() {
	if x.fetch == nil {
		return
	}
	x.mu.Lock()
	x.cancelFetch()
	x.fetching = nil
	x.mu.Unlock()
	<-x.fetch.done
}
