;; case: G06
;; does: calls typed function references
;; world: module
;; gets: refused
(module (type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0))))
