// Package keylatch answers one question fast and exactly: who may touch this object now?
package keylatch
