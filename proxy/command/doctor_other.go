//go:build !unix

package command

// Where the system is none of Unix's kind these are not looked at.

func openFiles() (uint64, bool)       { return 0, false }
func freeSpace(string) (uint64, bool) { return 0, false }
func mayWrite(string) bool            { return true }
func totalMemory() uint64             { return 0 }
func inWSL2() bool                    { return false }
