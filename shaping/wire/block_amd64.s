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

// func classifyAVX512(p *byte, n int, out *block)
//
// The same, a block in one register.
TEXT ·classifyAVX512(SB), NOSPLIT, $0-24
	MOVQ p+0(FP), SI
	MOVQ n+8(FP), CX
	MOVQ out+16(FP), DI
	VPBROADCASTB quote<>(SB), Z8
	VPBROADCASTB slash<>(SB), Z9
	VPBROADCASTB last<>(SB), Z10
	VPBROADCASTB nibble<>(SB), Z11
	VBROADCASTI32X4 low<>(SB), Z12
	VBROADCASTI32X4 high<>(SB), Z13
	TESTQ CX, CX
	JZ    done512

loop512:
	VMOVDQU64 (SI), Z0
	VPCMPEQB  Z8, Z0, K1
	VPCMPEQB  Z9, Z0, K2
	VPCMPUB   $2, Z10, Z0, K3
	VPANDQ    Z11, Z0, Z2
	VPSRLW    $4, Z0, Z4
	VPANDQ    Z11, Z4, Z4
	VPSHUFB   Z2, Z12, Z2
	VPSHUFB   Z4, Z13, Z4
	VPTESTMB  Z4, Z2, K4
	KMOVQ     K1, (DI)
	KMOVQ     K2, 8(DI)
	KMOVQ     K3, 16(DI)
	KMOVQ     K4, 24(DI)
	ADDQ $64, SI
	ADDQ $32, DI
	DECQ CX
	JNZ  loop512

done512:
	VZEROUPPER
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
