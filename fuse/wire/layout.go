package wire

// A Layout tells how the messages of one operation are built.
type Layout struct {
	In    uint16 // bytes of the fixed struct after the request header
	Out   uint16 // bytes of the fixed struct after the reply header
	Names uint8  // NUL-terminated strings after the fixed struct
	Flags LayoutFlags
}

// LayoutFlags are properties of an operation's messages.
type LayoutFlags uint8

// What a Layout's Flags can say.
const (
	VarIn   LayoutFlags = 1 << iota // data of variable length ends the request
	VarOut                          // the reply may end in, or be, data of variable length
	NoReply                         // the server must not answer
	HasExt                          // an extension area may end the request
	Entry                           // a successful reply gives the kernel a lookup reference
	Handle                          // a successful reply gives the kernel an open handle
)

// Layout returns how o's messages are built at protocol 7.45, and whether o
// is known. SETXATTR's In is the 16 bytes of SETXATTR_EXT; without that flag
// the struct has [SetxattrCompatSize] bytes. GETXATTR and LISTXATTR answer
// with an 8-byte struct when asked for the size, else with data only.
func (o Opcode) Layout() (Layout, bool) {
	if o < OpLimit {
		return layouts[o], opNames[o] != ""
	}
	if o == OpCuseInit {
		return Layout{In: 16, Out: 72, Flags: VarOut}, true
	}
	return Layout{}, false
}

// MinRequest is the smallest length of a whole request of o, header included;
// a name counts one byte, its NUL. It is 0 for an unknown opcode.
func (o Opcode) MinRequest() int {
	l, ok := o.Layout()
	if !ok {
		return 0
	}
	in := int(l.In)
	switch o {
	case OpSetxattr:
		in = SetxattrCompatSize
	case OpInit:
		in = 8 // major and minor: all that the oldest kernels send
	}
	return InHeaderSize + in + int(l.Names)
}

var layouts = [OpLimit]Layout{
	OpLookup:          {0, 128, 1, Entry},
	OpForget:          {8, 0, 0, NoReply},
	OpGetattr:         {16, 104, 0, 0},
	OpSetattr:         {88, 104, 0, 0},
	OpReadlink:        {0, 0, 0, VarOut},
	OpSymlink:         {0, 128, 2, HasExt | Entry},
	OpMknod:           {16, 128, 1, HasExt | Entry},
	OpMkdir:           {8, 128, 1, HasExt | Entry},
	OpUnlink:          {0, 0, 1, 0},
	OpRmdir:           {0, 0, 1, 0},
	OpRename:          {8, 0, 2, 0},
	OpLink:            {8, 128, 1, Entry},
	OpOpen:            {8, 16, 0, Handle},
	OpRead:            {40, 0, 0, VarOut},
	OpWrite:           {40, 8, 0, VarIn},
	OpStatfs:          {0, 80, 0, 0},
	OpRelease:         {24, 0, 0, 0},
	OpFsync:           {16, 0, 0, 0},
	OpSetxattr:        {16, 0, 1, VarIn},
	OpGetxattr:        {8, 8, 1, VarOut},
	OpListxattr:       {8, 8, 0, VarOut},
	OpRemovexattr:     {0, 0, 1, 0},
	OpFlush:           {24, 0, 0, 0},
	OpInit:            {64, 64, 0, VarOut},
	OpOpendir:         {8, 16, 0, Handle},
	OpReaddir:         {40, 0, 0, VarOut},
	OpReleasedir:      {24, 0, 0, 0},
	OpFsyncdir:        {16, 0, 0, 0},
	OpGetlk:           {48, 24, 0, 0},
	OpSetlk:           {48, 0, 0, 0},
	OpSetlkw:          {48, 0, 0, 0},
	OpAccess:          {8, 0, 0, 0},
	OpCreate:          {16, 144, 1, HasExt | Entry | Handle},
	OpInterrupt:       {8, 0, 0, 0},
	OpBmap:            {16, 8, 0, 0},
	OpDestroy:         {0, 0, 0, 0},
	OpIoctl:           {32, 16, 0, VarIn | VarOut},
	OpPoll:            {24, 8, 0, 0},
	OpNotifyReply:     {40, 0, 0, VarIn | NoReply},
	OpBatchForget:     {8, 0, 0, VarIn | NoReply},
	OpFallocate:       {32, 0, 0, 0},
	OpReaddirplus:     {40, 0, 0, VarOut | Entry},
	OpRename2:         {16, 0, 2, HasExt},
	OpLseek:           {24, 8, 0, 0},
	OpCopyFileRange:   {56, 8, 0, 0},
	OpSetupmapping:    {40, 0, 0, 0},
	OpRemovemapping:   {4, 0, 0, VarIn},
	OpSyncfs:          {8, 0, 0, 0},
	OpTmpfile:         {16, 144, 1, HasExt | Entry | Handle},
	OpStatx:           {24, 288, 0, 0},
	OpCopyFileRange64: {56, 8, 0, 0},
}
