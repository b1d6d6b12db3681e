/* The end of a broker: a supervisor that finds itself alone ends it, while users attach under its name.
 *
 * Users 0 and 1 attach TIMES times each, to what the name leads to, or make it anew; each of the files has a supervisor
 * that ends it once it has seen no user. A name is removed by whoever finds its file ended. Promised: the name leads to
 * the file that a user uses, for as long as it does; and nobody hangs.
 *
 * DEATHS   so many deaths; a death drops the bury lock, and the row is given back some time later
 * BAD_...  NOCOUNT who attaches does not count itself; COUNTFIRST it counts before its row is there; NOSWAP the end is
 *          stored, not swapped in; NOLOCK a name is removed without the lock; ANYNAME without a look where it leads
 */
#ifndef DEATHS
#define DEATHS 0
#endif
#ifndef TIMES
#define TIMES 1
#endif
#ifndef FILES
#ifndef FILES
#ifndef FILES
#define FILES 2
#endif
#endif
#endif
#define NONE 15
#define ROW(i, u) row[(i) * 2 + (u)]

byte path = NONE, made = 0, deaths = DEATHS;
byte count[FILES];
bit ended[FILES], row[FILES * 2], bury[FILES];
byte uses[2] = NONE;

#define RIGHT(u) (uses[u] == NONE || path == uses[u])
#define DIE(c) if :: deaths > 0 -> deaths--; c; goto dead :: true fi

/* Under the bury lock: where it is taken, somebody else is at it, and the caller looks again. */
inline remove(i) {
#ifdef BAD_NOLOCK
	held = 1;
#else
	atomic { if :: !bury[i] -> bury[i] = 1; held = 1 :: else -> held = 0 fi }
#endif
	if
	:: held ->
		DIE(bury[i] = 0);
		found = path;
		DIE(bury[i] = 0);
#ifdef BAD_ANYNAME
		if :: path != NONE -> path = NONE :: else fi;
#else
		if :: found == i -> path = NONE :: else fi;
#endif
		DIE(bury[i] = 0);
		bury[i] = 0
	:: else
	fi;
	found = 0; held = 0
}

proctype user(bit u) {
	byte i, found, times = 0;
	bit over, held;
again:
	if
	:: times == TIMES -> goto done
	:: else
	fi;
	atomic {
		i = path;
		if
		:: i == NONE && made < FILES -> path = made; i = made; made++
		:: i == NONE && made == FILES -> goto done /* enough seen */
		:: else
		fi
	}
#ifdef BAD_COUNTFIRST
	atomic { over = ended[i]; if :: !over -> count[i]++ :: else fi } /* after the end the count is no matter */
	ROW(i, u) = 1;
#else
	ROW(i, u) = 1;
	DIE(skip);
#ifdef BAD_NOCOUNT
	over = ended[i];
#else
	atomic { over = ended[i]; if :: !over -> count[i]++ :: else fi } /* after the end the count is no matter */
#endif
#endif
	if
	:: over ->
		ROW(i, u) = 0;
		remove(i);
		goto again
	:: else
	fi;
	uses[u] = i;
	if :: deaths > 0 -> deaths--; uses[u] = NONE; goto dead :: true fi;
	times++;
	atomic { uses[u] = NONE; ROW(i, u) = 0 }
	goto again;
dead:
	ROW(i, u) = 0;
done:	skip
}

proctype supervisor(byte i) {
	byte seen, found;
	bit held;
end:	made > i; /* its file is there */
look:
	seen = count[i];
	if :: ROW(i, 0) -> !ROW(i, 0); goto look :: else fi;
	if :: ROW(i, 1) -> !ROW(i, 1); goto look :: else fi;
#ifdef BAD_NOSWAP
	ended[i] = 1;
#else
	atomic { if :: count[i] == seen -> ended[i] = 1 :: else -> goto look fi }
#endif
	DIE(skip);
	remove(i);
dead:	skip
}

active proctype monitor() {
end:	if
	:: atomic { !RIGHT(0) -> assert(path == uses[0]) }
	:: atomic { !RIGHT(1) -> assert(path == uses[1]) }
	fi
}

init {
	byte i;
	atomic {
		run user(0); run user(1);
		i = 0;
		do :: i < FILES -> run supervisor(i); i++ :: else -> break od
	}
}
