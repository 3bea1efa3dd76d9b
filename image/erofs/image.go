package erofs

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"runtime/debug"
	"sync/atomic"

	"github.com/sluicefs/sluice/image"
	"github.com/sluicefs/sluice/internal/mmap"
	"github.com/sluicefs/sluice/storage"
)

// knownIncompat are the features that this package reads.
const knownIncompat = IncompatZeroPadding | IncompatComprConfigs | IncompatChunked | IncompatDevices | IncompatXattrPrefixes

// deviceChunkSize is how the data of a device is cut for fetching: an EROFS
// device has no chunks of its own that could be verified.
const deviceChunkSize = 1 << 20

// maxDevices bounds the device table. The format allows 65535; a device is a
// file that somebody has to provide.
const maxDevices = 4096

// Options say how to open an image. The zero value is for a plain image.
type Options struct {
	Format  string      // name in errors and in Info, "erofs" if empty
	Devices []BlobStore // of the devices in the order of their table, what the image does not say
}

// BlobStore is what an image may leave open of a device: mkfs.erofs writes
// neither name nor size.
type BlobStore struct {
	ID   string
	Size int64 // bytes
}

// Image is an open EROFS image: an [image.Tree]. All methods but Close may
// run concurrently.
type Image struct {
	m         *mmap.Map
	data      []byte
	format    string
	super     Super
	blockSize uint64
	metaBase  uint64 // byte at which NID 0 is
	xattrBase uint64 // byte at which shared xattr 0 is
	prefixes  []string
	devices   []Device
	devMask   uint16
	blobs     []*storage.Blob
	last      atomic.Pointer[decoded] // of a compressed file
}

var _ image.Tree = (*Image)(nil)

// Open maps the image in the file called name.
func Open(name string, o *Options) (*Image, error) {
	m, err := mmap.Open(name)
	if err != nil {
		return nil, err
	}
	im, err := New(m, o)
	if err != nil {
		m.Close()
		return nil, err
	}
	return im, nil
}

// New opens the image in m. The image owns m if there is no error.
func New(m *mmap.Map, o *Options) (im *Image, err error) {
	if o == nil {
		o = &Options{}
	}
	im = &Image{m: m, data: m.Bytes(), format: o.Format}
	if im.format == "" {
		im.format = "erofs"
	}
	defer im.Guard(&err, debug.SetPanicOnFault(true))
	if err := im.readSuper(); err != nil {
		return nil, err
	}
	if err := im.readDevices(o.Devices); err != nil {
		return nil, err
	}
	if err := im.readPrefixes(); err != nil {
		return nil, err
	}
	var root Node
	if err := im.dir(im.Root(), &root); err != nil {
		return nil, err
	}
	return im, nil
}

// Guard is to be deferred around reads of the image, old being the value of
// debug.SetPanicOnFault(true): a read of bytes that the file has no longer
// becomes a FormatError in *err.
func (im *Image) Guard(err *error, old bool) {
	debug.SetPanicOnFault(old)
	if e := im.m.Fault(recover()); e != nil {
		*err = im.Errorf(-1, "%v", e)
	}
}

// Errorf returns a FormatError of this image; offset is -1 if it is not one
// place.
func (im *Image) Errorf(offset int64, format string, args ...any) error {
	return &image.FormatError{Format: im.format, Offset: offset, What: fmt.Sprintf(format, args...)}
}

func (im *Image) readSuper() error {
	var ok bool
	if len(im.data) < SuperOffset+SuperSize {
		return im.Errorf(-1, "%d bytes are too few for a superblock", len(im.data))
	}
	im.super, ok = ParseSuper(im.data[SuperOffset:])
	s := &im.super
	switch {
	case !ok:
		return im.Errorf(SuperOffset, "superblock: magic is not that of EROFS")
	case s.BlockBits < 9 || s.BlockBits > 16:
		return im.Errorf(SuperOffset+12, "superblock: block size 2^%d is not 512 to 65536", s.BlockBits)
	case s.Incompat&^knownIncompat != 0:
		return im.Errorf(SuperOffset+80, "superblock: %s is not supported", incompatName(s.Incompat&^knownIncompat))
	case s.DirBlockBits != 0:
		return im.Errorf(SuperOffset+90, "superblock: directory blocks of another size than blocks are not supported")
	}
	im.blockSize = 1 << s.BlockBits
	im.metaBase = uint64(s.MetaBlock) << s.BlockBits
	im.xattrBase = uint64(s.XattrBlock) << s.BlockBits
	if im.metaBase >= uint64(len(im.data)) {
		return im.Errorf(SuperOffset+40, "superblock: meta_blkaddr %d is behind the end of the image", s.MetaBlock)
	}
	if s.Compat&CompatChecksum != 0 {
		return im.verifySuper()
	}
	return nil
}

// verifySuper checks the CRC-32C that covers the rest of the superblock's
// block, with the checksum itself taken as zero.
func (im *Image) verifySuper() error {
	end := im.blockSize
	if end <= SuperOffset {
		end += SuperOffset // blocks too small to hold the boot area as well
	}
	if end > uint64(len(im.data)) {
		return im.Errorf(SuperOffset+4, "superblock: checksum covers more than the image has")
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, im.data[SuperOffset:SuperOffset+4])
	sum = crc32.Update(sum, table, make([]byte, 4))
	sum = ^crc32.Update(sum, table, im.data[SuperOffset+8:end]) // the format keeps it without the last inversion
	if sum != im.super.Checksum {
		return im.Errorf(SuperOffset+4, "superblock: checksum is %#x, its bytes have %#x", im.super.Checksum, sum)
	}
	return nil
}

func incompatName(bits uint32) string {
	for _, n := range [...]struct {
		bit  uint32
		name string
	}{
		{IncompatTailPacking, "ztailpacking (inline compressed tails)"},
		{IncompatFragments, "fragments or dedupe of compressed data"},
		{Incompat48Bit, "48-bit block addressing"},
		{IncompatMetabox, "metabox"},
	} {
		if bits&n.bit != 0 {
			return "feature " + n.name
		}
	}
	return fmt.Sprintf("feature_incompat %#x", bits)
}

func (im *Image) readDevices(given []BlobStore) error {
	s := &im.super
	n := int(s.Devices)
	if n == 0 || s.Incompat&IncompatDevices == 0 {
		return nil
	}
	if n > maxDevices {
		return im.Errorf(SuperOffset+86, "superblock: %d devices are more than the %d supported", n, maxDevices)
	}
	off := int(s.DeviceSlot) * DeviceSlotSize
	if off+n*DeviceSlotSize > len(im.data) {
		return im.Errorf(SuperOffset+88, "superblock: device table of %d slots at %d ends behind the image", n, off)
	}
	im.devMask = 1
	for int(im.devMask) < n+1 {
		im.devMask <<= 1
	}
	im.devMask--
	im.devices = make([]Device, n)
	im.blobs = make([]*storage.Blob, n)
	for i := range im.devices {
		d, _ := ParseDevice(im.data[off+i*DeviceSlotSize:])
		im.devices[i] = d
		var store BlobStore
		if i < len(given) {
			store = given[i]
		}
		size := int64(d.Blocks) << s.BlockBits
		if size == 0 {
			size = min(max(store.Size, 0), 1<<44)
		}
		im.blobs[i] = &storage.Blob{
			ID: deviceID(d.Tag[:], i, store.ID), Index: i, Size: size, DataSize: size, UncompressedSize: size,
			ChunkSize: deviceChunkSize, ChunkCount: uint32((size + deviceChunkSize - 1) / deviceChunkSize),
		}
	}
	return nil
}

// deviceID is the tag of device i or, when it has none, the given id or else
// "device1" and so on.
func deviceID(tag []byte, i int, id string) string {
	if n := bytes.IndexByte(tag, 0); n >= 0 {
		tag = tag[:n]
	}
	switch {
	case len(tag) > 0:
		return string(tag)
	case id != "":
		return id
	}
	return fmt.Sprintf("device%d", i+1)
}

// Data returns the mapped bytes, valid until Close. Reads of them belong
// under [Image.Guard].
func (im *Image) Data() []byte { return im.data }

// Super returns the superblock.
func (im *Image) Super() *Super { return &im.super }

// Devices returns the device table, not to be changed.
func (im *Image) Devices() []Device { return im.devices }

// Root returns the NID of the root directory.
func (im *Image) Root() uint64 { return uint64(im.super.RootNID) }

// Blobs returns a blob for each device; their data is cut into chunks of
// equal size that have no digest.
func (im *Image) Blobs() []*storage.Blob { return im.blobs }

// Prefetch returns nil: EROFS has no such list.
func (im *Image) Prefetch() []uint64 { return nil }

// Info says what the image is.
func (im *Image) Info() image.Info {
	info := image.Info{
		Format: im.format, Inodes: im.super.Inodes, BlockSize: uint32(im.blockSize),
		Size: int64(len(im.data)), Flags: uint64(im.super.Incompat),
	}
	if len(im.blobs) > 0 {
		info.ChunkSize = deviceChunkSize
	}
	return info
}

// Trim is that of image.Trimmer.
func (im *Image) Trim() { im.m.Trim() }

// Close gives the mapping back.
func (im *Image) Close() error { return im.m.Close() }
