package config

import (
	"strconv"

	"nearside/proxy"
)

// observedFields are the keys of proxy.metrics.
func observedFields() []field {
	d := proxy.Defaults()
	return []field{
		ours("keys", &shape{kind: whole, zero: true}, strconv.Itoa(d.MetricsKeys), "Of how many clients' keys the metrics tell one by one, the first that are seen; the others count as other. 0 tells of none."),
	}
}
