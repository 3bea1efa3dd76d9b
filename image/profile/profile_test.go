package profile

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
)

func TestSaveLoad(t *testing.T) {
	p := &Profile{Version: Version, Image: "x", Command: []string{"a", "b"}, Reads: []Read{{"/a", 0, 10}, {"/b c", 4096, 0}}}
	path := filepath.Join(t.TempDir(), "p.json")
	if err := p.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("got %+v, %v, want %+v", got, err, p)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty": ``, "version": `{"version":9}`, "relative": `{"version":1,"reads":[{"path":"a"}]}`,
		"negative": `{"version":1,"reads":[{"path":"/a","offset":-1}]}`,
		"overflow": `{"version":1,"reads":[{"path":"/a","offset":9223372036854775807,"length":1}]}`,
	} {
		if p, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted: %+v", name, p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"reads":[{"path":"/a","offset":1,"length":2}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		for _, r := range p.Reads {
			if r.Path[0] != '/' || r.Offset < 0 || r.Length < 0 {
				t.Errorf("bad read passed: %+v", r)
			}
		}
	})
}

// A pipe that is named as the output is written to, not replaced.
func TestSaveLeavesWhatIsNoFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := exec.Command("mkfifo", pipe).Run(); err != nil {
		t.Fatal(err)
	}
	read := make(chan []byte)
	go func() {
		b, _ := os.ReadFile(pipe)
		read <- b
	}()
	if err := new(Profile).Save(pipe); err != nil {
		t.Fatal(err)
	}
	if b := <-read; len(b) == 0 {
		t.Error("nothing came through the pipe")
	}
	if fi, err := os.Stat(pipe); err != nil || fi.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("the pipe became %v, %v", fi, err)
	}
}
