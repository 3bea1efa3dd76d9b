package main

// The packages that are compared, so that the module's requirements hold
// what loading them needs.
import (
	_ "github.com/hanwen/go-fuse/v2/fs"
	_ "github.com/hanwen/go-fuse/v2/fuse"
	_ "github.com/hanwen/go-fuse/v2/splice"

	_ "github.com/sluicefs/sluice/fs"
	_ "github.com/sluicefs/sluice/fuse"
	_ "github.com/sluicefs/sluice/splice"
)
