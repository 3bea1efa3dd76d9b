package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// tomlError makes one line of what is wrong with TOML, with its place.
func tomlError(err error) error {
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		e := unknown.Errors[0]
		row, _ := e.Position()
		return fmt.Errorf("line %d: %s is unknown", row, strings.Join(e.Key(), "."))
	case errors.As(err, &wrong):
		row, col := wrong.Position()
		text := strings.TrimPrefix(wrong.Error(), "toml: ")
		if m := otherType.FindStringSubmatch(text); m != nil {
			return fmt.Errorf("line %d: %s is of type %s, %s is wanted", row, strings.Join(wrong.Key(), "."), m[1], m[2])
		}
		return fmt.Errorf("line %d, column %d: %s", row, col, text)
	}
	return err
}

// otherType is how the decoder says that a value is of another type than the
// field of Go.
var otherType = regexp.MustCompile(`^cannot decode TOML (\S+) into .* of type \*?(\S+)$`)

// keyError says which key of a configuration has a value that is wrong; "" is
// the whole table.
func keyError(text []byte, table string, n int, key string, err error) error {
	where := ""
	if line := keyLine(text, table, n, key); line > 0 {
		where = fmt.Sprintf("line %d: ", line)
	}
	switch {
	case key == "":
		return fmt.Errorf("%s%w", where, err)
	case table != "":
		key = table + "." + key
	}
	return fmt.Errorf("%s%s: %w", where, key, err)
}

// keyLine finds the line of a key in the nth table of a name (from 0 on, the top
// level being ""), or where that begins if it lacks the key; 0 if there is none.
func keyLine(text []byte, table string, n int, key string) int {
	current, seen, begin := "", map[string]int{}, 0
	for i, line := range bytes.Split(text, []byte("\n")) {
		s := strings.TrimSpace(string(line))
		if strings.HasPrefix(s, "[") {
			name, _, _ := strings.Cut(strings.TrimLeft(s, "["), "]")
			current = strings.TrimSpace(name)
			seen[current]++
			if current == table && seen[current] == n+1 {
				begin = i + 1
			}
			continue
		}
		name, _, is := strings.Cut(s, "=")
		if is && strings.Trim(strings.TrimSpace(name), `"'`) == key && current == table && max(seen[current], 1) == n+1 {
			return i + 1
		}
	}
	return begin
}
