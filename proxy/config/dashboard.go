package config

import (
	"strconv"

	"nearside/proxy"
)

// dashboardShape lists what can be said of /dashboard and of those who watch.
func dashboardShape() *shape {
	d := proxy.Defaults().Dashboard
	plus := &shape{kind: whole}
	return obj(
		ours("enabled", &shape{kind: boolean}, strconv.FormatBool(d.Enabled), "Serve the pages at /dashboard. What they show is at /proxy/… in any case."),
		ours("watchers", plus, strconv.Itoa(d.Watchers), "How many may watch /proxy/live at once; each open dashboard is one."),
		ours("every", &shape{kind: span}, inSeconds(d.Every), "How often those who watch are sent a picture of everything."),
		ours("buffer", plus, strconv.Itoa(d.Buffer), "How many finished exchanges a watcher may be behind before it is dropped."),
		ours("sessions", plus, strconv.Itoa(d.Sessions), "How many may be signed in at once, where keys are asked for; who was seen longest ago makes room."),
		ours("sessionFor", &shape{kind: span}, inSeconds(d.SessionFor), "How long somebody stays signed in. A key that is revoked, or a restart, ends it at once."),
	)
}

func (l *loader) dashboard(n node, d *proxy.Dashboard) {
	n.setFlag("enabled", &d.Enabled)
	n.setWhole("watchers", &d.Watchers)
	n.setSpan("every", &d.Every)
	n.setWhole("buffer", &d.Buffer)
	n.setWhole("sessions", &d.Sessions)
	n.setSpan("sessionFor", &d.SessionFor)
}
