package doctor

import "testing"

func TestLookIsComplete(t *testing.T) {
	all := Look(t.TempDir())
	if len(all) == 0 {
		t.Fatal("no checks")
	}
	for _, f := range all {
		if f.Check == "" || f.Found == "" || f.Gives == "" || f.Status == "" {
			t.Errorf("incomplete finding: %+v", f)
		}
		if f.Status == Fail && f.Help == "" {
			t.Errorf("%s fails and does not say what would help", f.Check)
		}
	}
}

func TestWorst(t *testing.T) {
	for _, c := range []struct {
		in   []Status
		want Status
	}{{nil, OK}, {[]Status{OK, Warn, OK}, Warn}, {[]Status{Warn, Fail, Warn}, Fail}} {
		var all []Finding
		for _, s := range c.in {
			all = append(all, Finding{Status: s})
		}
		if got := Worst(all); got != c.want {
			t.Errorf("%v: got %s, want %s", c.in, got, c.want)
		}
	}
}
