package daemon

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluicefs/sluice/api"
)

// TestOpenAPI compares docs/openapi.yaml and docs/api.md with the routes and
// the types.
func TestOpenAPI(t *testing.T) {
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	md, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, r := range routes() {
		path := strings.ReplaceAll(r.path, "...", "")
		want = append(want, r.method+" "+path)
		if !strings.Contains(string(md), "| "+r.method+" | `"+path) {
			t.Errorf("docs/api.md lacks %s %s", r.method, path)
		}
	}
	want = append(want, "GET /metrics")
	var got []string
	path := ""
	paths, _, _ := strings.Cut(text, "\ncomponents:")
	for line := range strings.Lines(paths) {
		if m := regexp.MustCompile(`^  (/\S*):`).FindStringSubmatch(line); m != nil {
			path = m[1]
		}
		if m := regexp.MustCompile(`^    (get|put|post|delete):`).FindStringSubmatch(line); m != nil {
			got = append(got, strings.ToUpper(m[1])+" "+path)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("docs/openapi.yaml has\n%s\nthe code has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, v := range []any{
		api.Daemon{}, api.MountRequest{}, api.Overlay{}, api.Mount{}, api.Image{}, api.Request{}, api.Latency{},
		api.Cache{}, api.Trim{}, api.Trimmed{}, api.Log{}, api.HandOver{}, api.Error{},
	} {
		checkSchema(t, text, v)
	}
}

// checkSchema compares the properties of a type with its fields.
func checkSchema(t *testing.T, text string, v any) {
	t.Helper()
	name := reflect.TypeOf(v).Name()
	_, rest, ok := strings.Cut(text, "\n    "+name+":\n      type: object\n      properties:\n")
	if !ok {
		t.Errorf("docs/openapi.yaml lacks the schema %s", name)
		return
	}
	var got []string
	for line := range strings.Lines(rest) {
		m := regexp.MustCompile(`^        (\w+): `).FindStringSubmatch(line)
		if m == nil {
			break
		}
		got = append(got, m[1])
	}
	var want []string
	for i := range reflect.TypeOf(v).NumField() {
		tag, _, _ := strings.Cut(reflect.TypeOf(v).Field(i).Tag.Get("json"), ",")
		if tag != "-" {
			want = append(want, tag)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("schema %s has %v, the type has %v", name, got, want)
	}
	if _, err := json.Marshal(v); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}
