//go:build amd64 && !purego

#include "textflag.h"

// Masks of 64 bytes at a time; see block_amd64.go.

// func classifyAVX2(p *byte, n int, out *block)
//
// n blocks of 64 bytes at p, each described in out.
TEXT ·classifyAVX2(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ out+16(FP), DI
	VPBROADCASTB quote<>(SB), Y8
	VPBROADCASTB slash<>(SB), Y9
	VPBROADCASTB last<>(SB), Y10
	VPBROADCASTB nibble<>(SB), Y11
	VBROADCASTI128 low<>(SB), Y12
	VBROADCASTI128 high<>(SB), Y13
	VPXOR Y14, Y14, Y14
	TESTQ CX, CX
	JZ    done

loop:
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1

	// quotes
	VPCMPEQB  Y8, Y0, Y2
	VPCMPEQB  Y8, Y1, Y3
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, BX
	SHLQ      $32, BX
	ORQ       BX, AX
	MOVQ      AX, (DI)

	// backslashes
	VPCMPEQB  Y9, Y0, Y2
	VPCMPEQB  Y9, Y1, Y3
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, BX
	SHLQ      $32, BX
	ORQ       BX, AX
	MOVQ      AX, 8(DI)

	// control characters: not above 0x1f
	VPMINUB   Y10, Y0, Y2
	VPMINUB   Y10, Y1, Y3
	VPCMPEQB  Y2, Y0, Y2
	VPCMPEQB  Y3, Y1, Y3
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, BX
	SHLQ      $32, BX
	ORQ       BX, AX
	MOVQ      AX, 16(DI)

	// what may follow a backslash as one letter: the bits of the two nibbles meet
	VPAND     Y11, Y0, Y2
	VPAND     Y11, Y1, Y3
	VPSRLW    $4, Y0, Y4
	VPSRLW    $4, Y1, Y5
	VPAND     Y11, Y4, Y4
	VPAND     Y11, Y5, Y5
	VPSHUFB   Y2, Y12, Y2
	VPSHUFB   Y3, Y12, Y3
	VPSHUFB   Y4, Y13, Y4
	VPSHUFB   Y5, Y13, Y5
	VPAND     Y4, Y2, Y2
	VPAND     Y5, Y3, Y3
	VPCMPEQB  Y14, Y2, Y2
	VPCMPEQB  Y14, Y3, Y3
	VPMOVMSKB Y2, AX
	VPMOVMSKB Y3, BX
	SHLQ      $32, BX
	ORQ       BX, AX
	NOTQ      AX
	MOVQ      AX, 24(DI)

	ADDQ $64, SI
	ADDQ $32, DI
	DECQ CX
	JNZ  loop

done:
	VZEROUPPER
	RET

// func scanAVX512(p *byte, n int, s *stretch) int
//
// blockString's loop over n blocks at p, of which there is at least one: a block in
// one register, and what there is to know of it in others. Returns how many blocks it
// went through; when it did not get through all, s says where in the next one it
// stopped.
TEXT ·scanAVX512(SB), NOSPLIT, $0-32
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ s+16(FP), DI
	MOVQ 24(DI), R8 // escaped
	MOVQ 32(DI), R9 // slack
	MOVQ $0xaaaaaaaaaaaaaaaa, R10
	VPBROADCASTB quote<>(SB), Z8
	VPBROADCASTB slash<>(SB), Z9
	VPBROADCASTB last<>(SB), Z10
	VPBROADCASTB nibble<>(SB), Z11
	VBROADCASTI32X4 low<>(SB), Z12
	VBROADCASTI32X4 high<>(SB), Z13

scan512:
	VMOVDQU64 (SI), Z0
	VPCMPEQB  Z8, Z0, K1      // quotes
	VPCMPEQB  Z9, Z0, K2      // backslashes
	VPCMPUB   $2, Z10, Z0, K3 // control characters
	KORQ      K1, K3, K5
	KMOVQ     K2, AX
	KMOVQ     K5, BX
	MOVQ      AX, DX
	ORQ       R8, DX
	JNZ       escapes512
	TESTQ     BX, BX
	JNZ       plain512

next512:
	ADDQ $64, SI
	DECQ CX
	JNZ  scan512
	JMP  done512

escapes512:
	VPANDQ   Z11, Z0, Z2
	VPSRLW   $4, Z0, Z4
	VPANDQ   Z11, Z4, Z4
	VPSHUFB  Z2, Z12, Z2
	VPSHUFB  Z4, Z13, Z4
	VPTESTMB Z4, Z2, K4 // what may follow a backslash as one letter
	KMOVQ    K1, R11
	KMOVQ    K3, R13
	KMOVQ    K4, BX
	ANDNQ    AX, R8, AX // backslashes that are not escaped by the block before
	LEAQ     (AX)(AX*1), DX
	ORQ      R10, DX
	SUBQ     AX, DX
	XORQ     R10, DX    // codes
	MOVQ     AX, R12
	ORQ      R8, R12
	XORQ     DX, R12    // what is escaped
	ANDQ     AX, DX
	SHRQ     $63, DX
	MOVQ     DX, R8
	ANDNQ    R11, R12, AX
	ORQ      AX, R13
	ANDNQ    R12, BX, BX
	ORQ      R13, BX    // quotes that end it, control characters, escapes of more than a letter
	JNZ      found512
	POPCNTQ  R12, DX
	ADDQ     DX, R9
	JMP      next512

plain512:
	KMOVQ K1, R11
	XORQ  R12, R12

found512:
	MOVQ BX, (DI)
	MOVQ R11, 8(DI)
	MOVQ R12, 16(DI)

done512:
	MOVQ R8, 24(DI)
	MOVQ R9, 32(DI)
	VZEROUPPER
	MOVQ n+8(FP), AX
	SUBQ CX, AX
	MOVQ AX, ret+24(FP)
	RET

DATA quote<>+0(SB)/1, $0x22
GLOBL quote<>(SB), RODATA, $1
DATA slash<>+0(SB)/1, $0x5c
GLOBL slash<>(SB), RODATA, $1
DATA last<>+0(SB)/1, $0x1f
GLOBL last<>(SB), RODATA, $1
DATA nibble<>+0(SB)/1, $0x0f
GLOBL nibble<>(SB), RODATA, $1

// " / are 0x22 0x2f, \\ is 0x5c, b f n are 0x62 0x66 0x6e, r t are 0x72 0x74:
// a bit for each high nibble.
DATA low<>+0(SB)/8, $0x00040008000d0000
DATA low<>+8(SB)/8, $0x0104000200000000
GLOBL low<>(SB), RODATA, $16
DATA high<>+0(SB)/8, $0x0804020000010000
DATA high<>+8(SB)/8, $0x0000000000000000
GLOBL high<>(SB), RODATA, $16
