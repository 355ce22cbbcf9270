//go:build !unix

package command

import "os"

// columns is how wide a terminal is taken to be, where it cannot be asked.
func columns(*os.File) int { return 80 }
