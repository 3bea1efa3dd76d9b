module github.com/sluicefs/sluice/bench

go 1.26.0

require (
	github.com/hanwen/go-fuse/v2 v2.12.1
	golang.org/x/tools v0.52.0
)

require github.com/jacobsa/fuse v0.0.0-20260630194014-a124548f6da7 // indirect

require (
	github.com/erofs/go-erofs v0.3.1
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/klauspost/cpuid/v2 v2.4.0 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
	github.com/zeebo/blake3 v0.2.4 // indirect
)

require (
	github.com/sluicefs/sluice v0.0.0
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/sluicefs/sluice => ../
