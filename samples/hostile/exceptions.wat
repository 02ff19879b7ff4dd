;; case: G06
;; does: throws exceptions
;; world: module
;; gets: refused
(module (tag $t) (func (throw $t)))
