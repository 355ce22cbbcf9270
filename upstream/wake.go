package upstream

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// StateWaking is that of a box which was sent a wake-on-LAN packet and does not
// answer yet.
const StateWaking = "waking"

// Wake says how the box of a provider is woken when it sleeps (wake-on-LAN). The
// zero value is for one that is not.
type Wake struct {
	MAC     string        // of its network card; empty for none
	Address string        // host:port that the packet goes to, mostly the network's broadcast address
	Wait    time.Duration // how long it is waited for, from the packet on
	Every   time.Duration // the least time between two packets
}

// DefaultWake returns what holds where only the MAC is said. Port 9 is discard:
// nobody need listen there, the network card alone reads the packet.
func DefaultWake() Wake {
	return Wake{Address: "255.255.255.255:9", Wait: 45 * time.Second, Every: time.Minute}
}

// magicPacket is what wakes the card: six bytes of ones, then its address sixteen
// times.
func magicPacket(mac string) ([]byte, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, fmt.Errorf("wake-on-LAN: %w", err)
	}
	if len(hw) != 6 {
		return nil, fmt.Errorf("wake-on-LAN: %s is not the address of an Ethernet card", mac)
	}
	p := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	for range 16 {
		p = append(p, hw...)
	}
	return p, nil
}

// waker sends the packets of one provider, not more often than it may.
type waker struct {
	mu   sync.Mutex
	last time.Time // of the last packet; zero for none
}

// Wake tells that the backend did not answer a connection, and wakes its box where
// that may help. It returns since when it is being woken, and whether a packet was
// sent now. A zero time says that nothing wakes it: it is not set up for that, its
// machine is awake (it refuses connections, and no packet was sent that may have it
// still booting), or the packet could not be sent, which the error says.
func (b *Backend) Wake(cause error, now time.Time) (since time.Time, sent bool, err error) {
	w := &b.cfg.Wake
	if w.MAC == "" || b.waker == nil {
		return time.Time{}, false, nil
	}
	var e *Error
	if !errors.As(cause, &e) || !e.Kind.Connect() || e.Kind == KindTLS {
		return time.Time{}, false, nil
	}
	k := b.waker
	k.mu.Lock()
	defer k.mu.Unlock()
	switch age := now.Sub(k.last); {
	case !k.last.IsZero() && age < w.Every:
		return k.last, false, nil
	case e.Kind == KindRefused && (k.last.IsZero() || age > w.Wait):
		return time.Time{}, false, nil
	}
	p, err := magicPacket(w.MAC)
	if err != nil {
		return time.Time{}, false, err
	}
	c, err := net.DialTimeout("udp", w.Address, time.Second) // to have a name looked up
	if err == nil {
		_, err = c.Write(p)
		c.Close()
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("wake-on-LAN to %s: %w (%s)", w.Address, err, b.path("wake.address"))
	}
	k.last = now
	return now, true, nil
}

// WakeUntil returns until when a box that is being woken is waited for.
func (b *Backend) WakeUntil() time.Time {
	if b.waker == nil {
		return time.Time{}
	}
	b.waker.mu.Lock()
	defer b.waker.mu.Unlock()
	return b.waker.last.Add(b.cfg.Wake.Wait)
}

// Wakes says whether the backend's box is woken when it sleeps.
func (b *Backend) Wakes() bool { return b.cfg.Wake.MAC != "" }
