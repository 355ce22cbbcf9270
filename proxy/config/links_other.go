//go:build !unix

package config

import "io/fs"

// links returns 1 where the system does not tell how many names a file has.
func links(fs.FileInfo) uint64 { return 1 }
