// Writes real BoltDB files for the tests, in the way of libkv's BoltDB store (the one of Traefik 1.7).
//
//	bolt_writer FILE            one JSON transaction a line from standard input, one answer a line
//	bolt_writer FILE churn      changes keys of its own and never stops
//	bolt_writer FILE dump       every bucket as JSON, as bbolt itself reads it
//
// As in libkv the file is opened and closed for each transaction, and each value begins with a counter.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
)

type transaction struct {
	Bucket         []string           `json:"bucket"`
	Put            map[string][]byte  `json:"put"`
	Delete         []string           `json:"delete"`
	DeletePrefixes []string           `json:"deletePrefixes"`
	Expect         map[string]*[]byte `json:"expect"`
	Raw            bool               `json:"raw"`
}

type answer struct {
	Version  int    `json:"version"`
	Conflict string `json:"conflict,omitempty"`
	Error    string `json:"error,omitempty"`
}

type conflict string

func (key conflict) Error() string { return string(key) }

var counter uint64

func main() {
	path := os.Args[1]
	switch {
	case len(os.Args) == 2:
		serve(path)
	case os.Args[2] == "churn":
		churn(path)
	case os.Args[2] == "dump":
		dump(path)
	}
}

func open(path string) *bolt.DB {
	db, err := bolt.Open(path, 0644, &bolt.Options{Timeout: 30 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return db
}

func serve(path string) {
	open(path).Close()
	lines := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var wanted transaction
		if err := json.Unmarshal(line, &wanted); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		text, _ := json.Marshal(write(path, wanted))
		fmt.Println(string(text))
	}
}

func write(path string, wanted transaction) answer {
	db := open(path)
	defer db.Close()
	// What is killed loses nothing that the kernel has: the tests need no disk.
	db.NoSync = true
	var found answer
	err := db.Update(func(tx *bolt.Tx) error {
		found.Version = tx.ID()
		return apply(tx, wanted)
	})
	if key, ok := err.(conflict); ok {
		return answer{Conflict: string(key)}
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return found
}

func apply(tx *bolt.Tx, wanted transaction) error {
	names := wanted.Bucket
	if len(names) == 0 {
		names = []string{"traefik"}
	}
	bucket, err := tx.CreateBucketIfNotExists([]byte(names[0]))
	for _, name := range names[1:] {
		if err == nil {
			bucket, err = bucket.CreateBucketIfNotExists([]byte(name))
		}
	}
	if err != nil {
		return err
	}
	for key, expected := range wanted.Expect {
		value := bucket.Get([]byte(key))
		if (value == nil) != (expected == nil) || value != nil && !bytes.Equal(value[8:], *expected) {
			return conflict(key)
		}
	}
	for _, prefix := range wanted.DeletePrefixes {
		if err := deletePrefix(bucket, prefix); err != nil {
			return err
		}
	}
	for _, key := range wanted.Delete {
		if err := bucket.Delete([]byte(key)); err != nil {
			return err
		}
	}
	for key, value := range wanted.Put {
		stored := value
		if !wanted.Raw {
			counter++
			stored = make([]byte, 8, 8+len(value))
			binary.LittleEndian.PutUint64(stored, counter)
			stored = append(stored, value...)
		}
		if err := bucket.Put([]byte(key), stored); err != nil {
			return err
		}
	}
	return nil
}

func deletePrefix(bucket *bolt.Bucket, prefix string) error {
	var doomed [][]byte
	cursor := bucket.Cursor()
	for key, _ := cursor.Seek([]byte(prefix)); bytes.HasPrefix(key, []byte(prefix)); key, _ = cursor.Next() {
		rest := key[len(prefix):]
		if len(rest) == 0 || rest[0] == '/' || len(prefix) == 0 {
			doomed = append(doomed, append([]byte{}, key...))
		}
	}
	for _, key := range doomed {
		if err := bucket.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// churn keeps the file open and writes as fast as it can: the same number to every key of a transaction,
// with values of all sizes, so that pages are split, merged, overflow and are used again.
func churn(path string) {
	db := open(path)
	db.NoSync = true
	fmt.Println("ready")
	for number := 1; ; number++ {
		text := strconv.Itoa(number)
		err := db.Update(func(tx *bolt.Tx) error {
			put := map[string][]byte{}
			for key := 0; key < 50+number%200; key++ {
				size := (number*31 + key*17) % 900
				if key%40 == 0 {
					size *= 20
				}
				put[fmt.Sprintf("/t/%03d", key)] = append([]byte(text+" "), bytes.Repeat([]byte("x"), size)...)
			}
			return apply(tx, transaction{DeletePrefixes: []string{"/t"}, Put: put})
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func dump(path string) {
	db, err := bolt.Open(path, 0644, &bolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer db.Close()
	found := map[string]map[string][]byte{}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, bucket *bolt.Bucket) error {
			dumpBucket(string(name), bucket, found)
			return nil
		})
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(found)
}

func dumpBucket(name string, bucket *bolt.Bucket, found map[string]map[string][]byte) {
	found[name] = map[string][]byte{}
	bucket.ForEach(func(key, value []byte) error {
		if value == nil {
			dumpBucket(name+"\x00"+string(key), bucket.Bucket(key), found)
		} else {
			found[name][string(key)] = value
		}
		return nil
	})
}
