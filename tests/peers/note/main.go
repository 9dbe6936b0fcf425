// Opens and signs notes with the reference implementation of the format, to compare ours with it.
//
// Usage: note open KEY... < NOTE prints the text if one of the verifier keys signed it.
// note sign NAME < TEXT prints a new verifier key and, from the second line on, the signed note.
package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"

	"golang.org/x/mod/sumdb/note"
)

// Longer than any note of the tests.
const inputBytesMax = 1 << 20

func open(keys []string, input []byte) (string, error) {
	var verifiers []note.Verifier
	for _, key := range keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return "", err
		}
		verifiers = append(verifiers, verifier)
	}
	opened, err := note.Open(input, note.VerifierList(verifiers...))
	if err != nil {
		return "", err
	}
	return opened.Text, nil
}

func sign(name string, input []byte) (string, error) {
	secret, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return "", err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: string(input)}, signer)
	return public + "\n" + string(signed), err
}

func run(arguments []string) (string, error) {
	input, err := io.ReadAll(io.LimitReader(os.Stdin, inputBytesMax))
	switch {
	case err != nil:
		return "", err
	case len(arguments) >= 2 && arguments[0] == "open":
		return open(arguments[1:], input)
	case len(arguments) == 2 && arguments[0] == "sign":
		return sign(arguments[1], input)
	default:
		return "", fmt.Errorf("usage: note open KEY... | note sign NAME")
	}
}

func main() {
	output, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(output)
}
