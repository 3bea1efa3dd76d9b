module github.com/sluicefs/sluice/bench

go 1.26.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	golang.org/x/tools v0.52.0
)

require github.com/erofs/go-erofs v0.3.1 // indirect

require (
	github.com/sluicefs/sluice v0.0.0
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/sluicefs/sluice => ../
