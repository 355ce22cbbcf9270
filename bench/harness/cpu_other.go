//go:build !unix

package harness

import "time"

// cpu is 0: the system does not say.
func cpu() time.Duration { return 0 }
