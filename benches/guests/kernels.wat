;; The kernels of `gilliam bench limits`: kernels.rs, compiled and printed by scripts/bench-kernels.
(module
  (memory (;0;) 289)
  (global $__stack_pointer (;0;) (mut i32) i32.const 18874368)
  (export "memory" (memory 0))
  (export "fib" (func $fib))
  (export "matmul" (func $matmul))
  (export "memory_walk" (func $memory_walk))
  (export "scanner" (func $scanner))
  (export "sha256" (func $sha256))
  (export "sieve" (func $sieve))
  (func $fib_of (;0;) (param i32) (result i32)
    (local i32)
    i32.const 0
    local.set 1
    block ;; label = @1
      local.get 0
      i32.const 2
      i32.lt_u
      br_if 0 (;@1;)
      i32.const 0
      local.set 1
      loop ;; label = @2
        local.get 0
        i32.const -1
        i32.add
        call $fib_of
        local.get 1
        i32.add
        local.set 1
        local.get 0
        i32.const -2
        i32.add
        local.tee 0
        i32.const 1
        i32.gt_u
        br_if 0 (;@2;)
      end
    end
    local.get 0
    local.get 1
    i32.add
  )
  (func $fib (;1;) (param i32) (result i32)
    (local i32 i32 i32)
    global.get $__stack_pointer
    i32.const 16
    i32.sub
    local.tee 1
    global.set $__stack_pointer
    i32.const 0
    local.set 2
    block ;; label = @1
      local.get 0
      i32.eqz
      br_if 0 (;@1;)
      loop ;; label = @2
        local.get 1
        i32.const 20
        i32.store offset=12
        local.get 1
        i32.const 12
        i32.add
        local.set 3
        local.get 1
        i32.load offset=12
        call $fib_of
        local.get 2
        i32.add
        local.set 2
        local.get 0
        i32.const -1
        i32.add
        local.tee 0
        br_if 0 (;@2;)
      end
    end
    local.get 1
    i32.const 16
    i32.add
    global.set $__stack_pointer
    local.get 2
  )
  (func $matmul (;2;) (param i32) (result i32)
    (local i32 f64 i32 i32 i32 f64 i32 i32 i32 i32 i32 i32)
    global.get $__stack_pointer
    i32.const 98320
    i32.sub
    local.tee 1
    global.set $__stack_pointer
    local.get 1
    i32.const 65544
    i32.add
    i32.const 0
    i32.const 32768
    memory.fill
    local.get 1
    i32.const 8
    i32.add
    i32.const 0
    i32.const 32768
    memory.fill
    local.get 1
    i32.const 32776
    i32.add
    i32.const 0
    i32.const 32768
    memory.fill
    f64.const 0x0p+0 (;=0;)
    local.set 2
    local.get 1
    i32.const 8
    i32.add
    local.set 3
    local.get 1
    i32.const 32776
    i32.add
    local.set 4
    i32.const 2
    local.set 5
    loop ;; label = @1
      local.get 3
      local.get 2
      f64.store
      local.get 3
      i32.const 8
      i32.add
      local.get 5
      i32.const -1
      i32.add
      f64.convert_i32_u
      local.tee 6
      f64.store
      local.get 4
      i32.const 8
      i32.add
      f64.const 0x1p+0 (;=1;)
      local.get 5
      f64.convert_i32_u
      f64.div
      f64.store
      local.get 4
      f64.const 0x1p+0 (;=1;)
      local.get 6
      f64.div
      f64.store
      local.get 4
      i32.const 16
      i32.add
      local.set 4
      local.get 3
      i32.const 16
      i32.add
      local.set 3
      local.get 2
      f64.const 0x1p+1 (;=2;)
      f64.add
      local.set 2
      local.get 5
      i32.const 2
      i32.add
      local.tee 5
      i32.const 4098
      i32.ne
      br_if 0 (;@1;)
    end
    block ;; label = @1
      block ;; label = @2
        local.get 0
        br_if 0 (;@2;)
        i32.const 0
        local.set 3
        br 1 (;@1;)
      end
      i32.const 0
      local.set 7
      loop ;; label = @2
        local.get 1
        i32.const 8
        i32.add
        local.set 8
        i32.const 0
        local.set 9
        loop ;; label = @3
          local.get 1
          i32.const 65544
          i32.add
          local.get 9
          i32.const 9
          i32.shl
          i32.add
          local.set 10
          i32.const 0
          local.set 11
          local.get 1
          i32.const 32776
          i32.add
          local.set 12
          loop ;; label = @4
            f64.const 0x0p+0 (;=0;)
            local.set 2
            local.get 12
            local.set 3
            i32.const 0
            local.set 4
            loop ;; label = @5
              local.get 2
              local.get 8
              local.get 4
              i32.add
              local.tee 5
              f64.load
              local.get 3
              f64.load
              f64.mul
              f64.add
              local.get 5
              i32.const 8
              i32.add
              f64.load
              local.get 3
              i32.const 512
              i32.add
              f64.load
              f64.mul
              f64.add
              local.set 2
              local.get 3
              i32.const 1024
              i32.add
              local.set 3
              local.get 4
              i32.const 16
              i32.add
              local.tee 4
              i32.const 512
              i32.ne
              br_if 0 (;@5;)
            end
            local.get 10
            local.get 11
            i32.const 3
            i32.shl
            i32.add
            local.get 2
            f64.store
            local.get 12
            i32.const 8
            i32.add
            local.set 12
            local.get 11
            i32.const 1
            i32.add
            local.tee 11
            i32.const 64
            i32.ne
            br_if 0 (;@4;)
          end
          local.get 8
          i32.const 512
          i32.add
          local.set 8
          local.get 9
          i32.const 1
          i32.add
          local.tee 9
          i32.const 64
          i32.ne
          br_if 0 (;@3;)
        end
        local.get 1
        local.get 1
        i32.const 65544
        i32.add
        i32.store offset=98316
        local.get 1
        i32.const 98316
        i32.add
        local.set 3
        local.get 7
        i32.const 1
        i32.add
        local.tee 7
        local.get 0
        i32.ne
        br_if 0 (;@2;)
      end
      local.get 1
      f64.load offset=66064
      i32.trunc_sat_f64_u
      local.set 3
    end
    local.get 1
    i32.const 98320
    i32.add
    global.set $__stack_pointer
    local.get 3
  )
  (func $memory_walk (;3;) (param i32) (result i32)
    (local i32 i32 i32 i32)
    global.get $__stack_pointer
    i32.const 16777216
    i32.sub
    local.tee 1
    global.set $__stack_pointer
    local.get 1
    i32.const 0
    i32.const 16777216
    memory.fill
    i32.const -16777216
    local.set 2
    i32.const 3876230
    local.set 3
    loop ;; label = @1
      local.get 1
      local.get 2
      i32.add
      local.tee 4
      i32.const 16777228
      i32.add
      local.get 3
      i32.const 4194302
      i32.and
      i32.store
      local.get 4
      i32.const 16777224
      i32.add
      local.get 3
      i32.const -1664525
      i32.add
      i32.const 4194301
      i32.and
      i32.store
      local.get 4
      i32.const 16777220
      i32.add
      local.get 3
      i32.const -3329050
      i32.add
      i32.const 4194300
      i32.and
      i32.store
      local.get 4
      i32.const 16777216
      i32.add
      local.get 3
      i32.const -799271
      i32.add
      i32.const 4194303
      i32.and
      i32.store
      local.get 3
      i32.const 6658100
      i32.add
      local.set 3
      local.get 2
      i32.const 16
      i32.add
      local.tee 2
      br_if 0 (;@1;)
    end
    i32.const 0
    local.set 4
    block ;; label = @1
      local.get 0
      i32.eqz
      br_if 0 (;@1;)
      i32.const 0
      local.set 2
      loop ;; label = @2
        i32.const 1000
        local.set 3
        loop ;; label = @3
          local.get 1
          local.get 1
          local.get 1
          local.get 1
          local.get 1
          local.get 4
          i32.const 4194303
          i32.and
          i32.const 2
          i32.shl
          i32.add
          i32.load
          i32.const 4194303
          i32.and
          i32.const 2
          i32.shl
          i32.add
          i32.load
          i32.const 4194303
          i32.and
          i32.const 2
          i32.shl
          i32.add
          i32.load
          i32.const 4194303
          i32.and
          i32.const 2
          i32.shl
          i32.add
          i32.load
          i32.const 4194303
          i32.and
          i32.const 2
          i32.shl
          i32.add
          i32.load
          local.set 4
          local.get 3
          i32.const -5
          i32.add
          local.tee 3
          br_if 0 (;@3;)
        end
        local.get 2
        i32.const 1
        i32.add
        local.tee 2
        local.get 0
        i32.ne
        br_if 0 (;@2;)
      end
    end
    local.get 1
    i32.const 16777216
    i32.add
    global.set $__stack_pointer
    local.get 4
  )
  (func $scanner (;4;) (param i32) (result i32)
    (local i32 i32 i32 i32 i32 i32 i32 i32 i32)
    global.get $__stack_pointer
    i32.const 65552
    i32.sub
    local.tee 1
    global.set $__stack_pointer
    i32.const 0
    local.set 2
    local.get 1
    i32.const 12
    i32.add
    i32.const 0
    i32.const 65536
    memory.fill
    i32.const 1
    local.set 3
    loop ;; label = @1
      local.get 1
      i32.const 12
      i32.add
      local.get 2
      i32.add
      local.tee 4
      i32.const 1
      i32.add
      local.get 3
      i32.const 389569705
      i32.mul
      i32.const 1196435762
      i32.add
      local.tee 5
      i32.const 16
      i32.shr_u
      i32.const 22
      i32.rem_u
      i32.load8_u offset=18874368
      i32.store8
      local.get 4
      local.get 3
      i32.const 1664525
      i32.mul
      i32.const 1013904223
      i32.add
      i32.const 16
      i32.shr_u
      i32.const 22
      i32.rem_u
      i32.load8_u offset=18874368
      i32.store8
      local.get 5
      local.set 3
      local.get 2
      i32.const 2
      i32.add
      local.tee 2
      i32.const 65536
      i32.ne
      br_if 0 (;@1;)
    end
    block ;; label = @1
      block ;; label = @2
        local.get 0
        br_if 0 (;@2;)
        i32.const 0
        local.set 2
        br 1 (;@1;)
      end
      i32.const 0
      local.set 6
      i32.const 0
      local.set 7
      i32.const 0
      local.set 8
      i32.const 0
      local.set 9
      loop ;; label = @2
        local.get 1
        local.get 1
        i32.const 12
        i32.add
        i32.store offset=65548
        local.get 1
        i32.const 65548
        i32.add
        local.set 2
        local.get 1
        i32.load offset=65548
        local.set 4
        i32.const 0
        local.set 2
        i32.const 0
        local.set 5
        loop ;; label = @3
          block ;; label = @4
            block ;; label = @5
              block ;; label = @6
                block ;; label = @7
                  local.get 4
                  local.get 2
                  i32.add
                  i32.load8_u
                  local.tee 3
                  i32.const 10
                  i32.eq
                  br_if 0 (;@7;)
                  local.get 3
                  i32.const 32
                  i32.eq
                  br_if 1 (;@6;)
                  local.get 3
                  i32.const -48
                  i32.add
                  i32.const 255
                  i32.and
                  i32.const 10
                  i32.lt_u
                  br_if 2 (;@5;)
                  local.get 5
                  i32.const -1
                  i32.xor
                  local.set 3
                  i32.const 1
                  local.set 5
                  local.get 7
                  local.get 3
                  i32.const 1
                  i32.and
                  i32.add
                  local.set 7
                  br 3 (;@4;)
                end
                local.get 8
                i32.const 1
                i32.add
                local.set 8
              end
              i32.const 0
              local.set 5
              br 1 (;@4;)
            end
            local.get 9
            i32.const 1
            i32.add
            local.set 9
          end
          local.get 2
          i32.const 1
          i32.add
          local.tee 2
          i32.const 65536
          i32.ne
          br_if 0 (;@3;)
        end
        local.get 6
        i32.const 1
        i32.add
        local.tee 6
        local.get 0
        i32.ne
        br_if 0 (;@2;)
      end
      local.get 8
      local.get 9
      i32.xor
      local.get 7
      i32.xor
      local.set 2
    end
    local.get 1
    i32.const 65552
    i32.add
    global.set $__stack_pointer
    local.get 2
  )
  (func $sha256 (;5;) (param i32) (result i32)
    (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
    global.get $__stack_pointer
    i32.const 256
    i32.sub
    local.tee 1
    global.set $__stack_pointer
    i32.const 0
    local.set 2
    local.get 1
    i32.const 64
    i32.add
    i32.const 0
    i32.const 192
    memory.fill
    i32.const 1779033703
    local.set 3
    block ;; label = @1
      local.get 0
      i32.eqz
      br_if 0 (;@1;)
      i32.const -1150833019
      local.set 4
      i32.const 1013904242
      local.set 5
      i32.const -1521486534
      local.set 6
      i32.const 1359893119
      local.set 7
      i32.const -1694144372
      local.set 8
      i32.const 528734635
      local.set 9
      i32.const 1541459225
      local.set 10
      loop ;; label = @2
        local.get 1
        local.get 2
        i32.const -1640531527
        i32.mul
        local.tee 11
        i32.store
        local.get 1
        local.get 11
        i32.const 15
        i32.xor
        i32.store offset=60
        local.get 1
        local.get 11
        i32.const 14
        i32.xor
        i32.store offset=56
        local.get 1
        local.get 11
        i32.const 13
        i32.xor
        i32.store offset=52
        local.get 1
        local.get 11
        i32.const 12
        i32.xor
        i32.store offset=48
        local.get 1
        local.get 11
        i32.const 11
        i32.xor
        i32.store offset=44
        local.get 1
        local.get 11
        i32.const 10
        i32.xor
        i32.store offset=40
        local.get 1
        local.get 11
        i32.const 9
        i32.xor
        i32.store offset=36
        local.get 1
        local.get 11
        i32.const 8
        i32.xor
        i32.store offset=32
        local.get 1
        local.get 11
        i32.const 7
        i32.xor
        i32.store offset=28
        local.get 1
        local.get 11
        i32.const 6
        i32.xor
        i32.store offset=24
        local.get 1
        local.get 11
        i32.const 5
        i32.xor
        i32.store offset=20
        local.get 1
        local.get 11
        i32.const 4
        i32.xor
        i32.store offset=16
        local.get 1
        local.get 11
        i32.const 3
        i32.xor
        i32.store offset=12
        local.get 1
        local.get 11
        i32.const 2
        i32.xor
        i32.store offset=8
        local.get 1
        local.get 11
        i32.const 1
        i32.xor
        i32.store offset=4
        i32.const 0
        local.set 12
        loop ;; label = @3
          local.get 1
          local.get 12
          i32.add
          local.tee 13
          i32.const 64
          i32.add
          local.get 13
          i32.const 36
          i32.add
          i32.load
          local.get 11
          i32.add
          local.get 13
          i32.const 56
          i32.add
          i32.load
          local.tee 11
          i32.const 15
          i32.rotl
          local.get 11
          i32.const 13
          i32.rotl
          i32.xor
          local.get 11
          i32.const 10
          i32.shr_u
          i32.xor
          i32.add
          local.get 13
          i32.const 4
          i32.add
          i32.load
          local.tee 13
          i32.const 25
          i32.rotl
          local.get 13
          i32.const 14
          i32.rotl
          i32.xor
          local.get 13
          i32.const 3
          i32.shr_u
          i32.xor
          i32.add
          i32.store
          local.get 13
          local.set 11
          local.get 12
          i32.const 4
          i32.add
          local.tee 12
          i32.const 192
          i32.ne
          br_if 0 (;@3;)
        end
        i32.const 0
        local.set 11
        local.get 10
        local.set 14
        local.get 9
        local.set 15
        local.get 8
        local.set 16
        local.get 7
        local.set 17
        local.get 6
        local.set 18
        local.get 5
        local.set 19
        local.get 4
        local.set 20
        local.get 3
        local.set 21
        loop ;; label = @3
          local.get 21
          local.tee 13
          i32.const 30
          i32.rotl
          local.get 13
          i32.const 19
          i32.rotl
          i32.xor
          local.get 13
          i32.const 10
          i32.rotl
          i32.xor
          local.get 20
          local.tee 22
          local.get 19
          local.tee 23
          i32.xor
          local.get 13
          i32.and
          local.get 22
          local.get 23
          i32.and
          i32.xor
          i32.add
          local.get 16
          local.tee 24
          local.get 15
          local.tee 25
          i32.xor
          local.get 17
          local.tee 12
          i32.and
          local.get 25
          i32.xor
          local.get 14
          i32.add
          local.get 12
          i32.const 26
          i32.rotl
          local.get 12
          i32.const 21
          i32.rotl
          i32.xor
          local.get 12
          i32.const 7
          i32.rotl
          i32.xor
          i32.add
          local.get 11
          i32.const 18874392
          i32.add
          i32.load
          i32.add
          local.get 1
          local.get 11
          i32.add
          i32.load
          i32.add
          local.tee 17
          i32.add
          local.set 21
          local.get 17
          local.get 18
          i32.add
          local.set 17
          local.get 25
          local.set 14
          local.get 24
          local.set 15
          local.get 12
          local.set 16
          local.get 23
          local.set 18
          local.get 22
          local.set 19
          local.get 13
          local.set 20
          local.get 11
          i32.const 4
          i32.add
          local.tee 11
          i32.const 256
          i32.ne
          br_if 0 (;@3;)
        end
        local.get 25
        local.get 10
        i32.add
        local.set 10
        local.get 24
        local.get 9
        i32.add
        local.set 9
        local.get 12
        local.get 8
        i32.add
        local.set 8
        local.get 17
        local.get 7
        i32.add
        local.set 7
        local.get 23
        local.get 6
        i32.add
        local.set 6
        local.get 22
        local.get 5
        i32.add
        local.set 5
        local.get 13
        local.get 4
        i32.add
        local.set 4
        local.get 21
        local.get 3
        i32.add
        local.set 3
        local.get 2
        i32.const 1
        i32.add
        local.tee 2
        local.get 0
        i32.ne
        br_if 0 (;@2;)
      end
    end
    local.get 1
    i32.const 256
    i32.add
    global.set $__stack_pointer
    local.get 3
  )
  (func $sieve (;6;) (param i32) (result i32)
    (local i32 i32 i32 i32 i32 i32 i32 i32)
    global.get $__stack_pointer
    i32.const 65536
    i32.sub
    local.tee 1
    global.set $__stack_pointer
    block ;; label = @1
      block ;; label = @2
        local.get 0
        br_if 0 (;@2;)
        i32.const 0
        local.set 2
        br 1 (;@1;)
      end
      i32.const 0
      local.set 3
      loop ;; label = @2
        local.get 1
        i32.const 1
        i32.const 65536
        memory.fill
        i32.const 2
        local.set 4
        i32.const 0
        local.set 2
        loop ;; label = @3
          local.get 4
          i32.const 65536
          local.get 4
          i32.const 65536
          i32.gt_u
          select
          local.set 5
          local.get 4
          i32.const 1
          i32.shl
          i32.const -2
          i32.add
          local.set 6
          block ;; label = @4
            loop ;; label = @5
              local.get 5
              local.get 4
              i32.eq
              br_if 1 (;@4;)
              local.get 6
              i32.const 2
              i32.add
              local.set 6
              local.get 1
              local.get 4
              i32.add
              local.set 7
              local.get 4
              i32.const 1
              i32.add
              local.tee 8
              local.set 4
              local.get 7
              i32.load8_u
              i32.eqz
              br_if 0 (;@5;)
            end
            local.get 2
            i32.const 1
            i32.add
            local.set 2
            local.get 8
            local.set 4
            local.get 8
            i32.const -1
            i32.add
            local.tee 7
            i32.const 32767
            i32.gt_u
            br_if 1 (;@3;)
            loop ;; label = @5
              local.get 1
              local.get 6
              i32.add
              i32.const 0
              i32.store8
              local.get 6
              local.get 7
              i32.add
              local.tee 6
              i32.const 65536
              i32.lt_u
              br_if 0 (;@5;)
            end
            local.get 8
            local.set 4
            br 1 (;@3;)
          end
        end
        local.get 3
        i32.const 1
        i32.add
        local.tee 3
        local.get 0
        i32.ne
        br_if 0 (;@2;)
      end
    end
    local.get 1
    i32.const 65536
    i32.add
    global.set $__stack_pointer
    local.get 2
  )
  (data $.rodata (;0;) (i32.const 18874368) "the quick 12 brown\0afox\00\00\98/\8aB\91D7q\cf\fb\c0\b5\a5\db\b5\e9[\c2V9\f1\11\f1Y\a4\82?\92\d5^\1c\ab\98\aa\07\d8\01[\83\12\be\851$\c3}\0cUt]\ber\fe\b1\de\80\a7\06\dc\9bt\f1\9b\c1\c1i\9b\e4\86G\be\ef\c6\9d\c1\0f\cc\a1\0c$o,\e9-\aa\84tJ\dc\a9\b0\5c\da\88\f9vRQ>\98m\c61\a8\c8'\03\b0\c7\7fY\bf\f3\0b\e0\c6G\91\a7\d5Qc\ca\06g))\14\85\0a\b7'8!\1b.\fcm,M\13\0d8STs\0ae\bb\0ajv.\c9\c2\81\85,r\92\a1\e8\bf\a2Kf\1a\a8p\8bK\c2\a3Ql\c7\19\e8\92\d1$\06\99\d6\855\0e\f4p\a0j\10\16\c1\a4\19\08l7\1eLwH'\b5\bc\b04\b3\0c\1c9J\aa\d8NO\ca\9c[\f3o.h\ee\82\8ftoc\a5x\14x\c8\84\08\02\c7\8c\fa\ff\be\90\eblP\a4\f7\a3\f9\be\f2xq\c6")
)
