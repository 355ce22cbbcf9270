// Command nearside is a local-first, OpenAI-compatible reverse proxy.
package main

func main() {}
