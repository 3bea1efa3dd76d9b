package mount

import (
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	var o Options
	if err := o.Parse("ro,nosuid", "fsname=a b", "subtype=x", "max_read=65536,allow_other,", "context=u:r"); err != nil {
		t.Fatal(err)
	}
	if !o.ReadOnly || !o.NoSuid || !o.AllowOther || o.Source != "a b" || o.Subtype != "x" || o.MaxRead != 65536 || len(o.Security) != 1 {
		t.Errorf("options: got %+v", o)
	}
	for _, tc := range []struct{ option, want string }{
		{"allow_root", "allow_other"},
		{"fd=3", "set by this package"},
		{"nonsense", "known: fsname="},
		{"ro=1", "takes no value"},
		{"max_read=many", "no number"},
	} {
		err := new(Options).Parse(tc.option)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("option %q: got %v, want an error with %q", tc.option, err, tc.want)
		}
	}
}

func TestPrepareRefusesBadOptions(t *testing.T) {
	for _, tc := range []struct {
		name string
		o    Options
	}{
		{"no point", Options{}},
		{"NUL in point", Options{Point: "/a\x00b"}},
		{"NUL in source", Options{Point: "/", Source: "\x00"}},
		{"slash in subtype", Options{Point: "/", Subtype: "a/b"}},
		{"method", Options{Point: "/", Method: 9}},
		{"auto_unmount with mount(2)", Options{Point: "/", Method: Syscall, AutoUnmount: true}},
		{"max_read", Options{Point: "/", MaxRead: 1}},
		{"security", Options{Point: "/", Security: []string{"uid=0"}}},
		{"descriptor", Options{Point: "/dev/fd/x"}},
		{"closed descriptor", Options{Point: "/dev/fd/1000000"}},
	} {
		if p, err := Prepare(tc.o); err == nil {
			t.Errorf("%s: got %v, want an error", tc.name, p)
		}
	}
}
