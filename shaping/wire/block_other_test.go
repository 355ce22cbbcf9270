//go:build !amd64 || purego

package wire

func classifiers() map[string]func([]byte, int, *[blocksMax]block) {
	return map[string]func([]byte, int, *[blocksMax]block){"the chosen one": classify}
}
