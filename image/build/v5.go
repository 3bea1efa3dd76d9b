package build

import "errors"

// encodeV5 returns the v5 bootstrap of m.
func encodeV5(m *model) ([]byte, error) {
	return nil, errors.New("writing RAFS v5 is not supported")
}
